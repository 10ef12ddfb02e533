"""Blend the models, choose the final one. The ranking rests on validation rows."""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    matthews_corrcoef,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from trainable import log

sys.path.insert(0, "models")
from predict import Blend

# Parameters
SEED = 42
RESAMPLES = 1000
# End of parameters

SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
DATA = np.load("work/arrays.npz")
X, y, X_val, y_val = (DATA[name] for name in ("X", "y", "X_val", "y_val"))
CLASSES = len(SETUP["classes"] or [])
METRIC, UP = SETUP["metric"], SETUP["metric"] == "roc_auc"
CEILING = json.loads(Path("work/candidates.json").read_text("utf-8"))["ceiling"]


def load_models():
    """Return all models with the predictions that the steps before stored."""
    models = []
    for step in ("candidates", "imbalance", "tune"):
        models += json.loads(Path(f"work/{step}.json").read_text("utf-8"))["models"]
    for model in models:
        model["oof"] = np.load(f"work/oof_{model['slug']}.npy")
        model["val"] = np.load(f"work/val_{model['slug']}.npy")
    return models


def headline(truth, output):
    if UP and len(np.unique(truth)) == 2:
        return roc_auc_score(truth, output[:, 1])
    if CLASSES:
        return log_loss(truth, output, labels=np.arange(CLASSES))
    return root_mean_squared_error(truth, output)


def greedy_weights(parts, loss):
    """Return weights by Caruana's method: add, again and again, the model that helps most.

    `parts` has a row for each model, of which a weighted mean gives the blend. It is repeated
    on resampled rows, and weights are averaged, so that one lucky row decides nothing.
    """
    rng = np.random.default_rng(SEED)
    weights = np.zeros(len(parts))
    bags, rounds = 20, 15
    for _ in range(bags):
        rows = rng.integers(0, parts.shape[1], min(parts.shape[1], 5_000))
        bag, total = parts[:, rows], np.zeros(len(rows))
        for size in range(1, rounds + 1):
            best = int(np.argmin([loss((total + row) / size) for row in bag]))
            total = total + bag[best]
            weights[best] += 1
    weights /= bags * rounds
    weights[weights < 0.05] = 0
    return weights / weights.sum()


def blend(models):
    """Return the weights of the best blend, found on held-out training rows."""
    seen = np.isfinite(models[0]["oof"].reshape(len(y), -1)[:, 0])
    if CLASSES:
        chances = np.array([m["oof"][seen, y[seen]] for m in models])
        return greedy_weights(chances, lambda p: -np.log(np.clip(p, 1e-15, 1)).mean())
    errors = np.array([m["oof"][seen] - y[seen] for m in models])
    return greedy_weights(errors, lambda e: np.sqrt((e**2).mean()))


def resample(count):
    """Return how often each row is drawn, a line for each resample."""
    rng = np.random.default_rng(SEED)
    draws = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(RESAMPLES)]
    return np.array(draws, dtype=np.float32)


def weighted_auc(truth, chance, weights):
    """Return the AUC for each line of weights; ties count half."""
    order = np.argsort(-chance, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(chance[order]) != 0])
    pos = np.add.reduceat((weights * truth)[:, order], starts, axis=1, dtype=np.float64)
    neg = np.add.reduceat((weights * (1 - truth))[:, order], starts, axis=1, dtype=np.float64)
    below = neg.sum(axis=1, keepdims=True) - np.cumsum(neg, axis=1)
    pairs = np.maximum(pos.sum(axis=1) * neg.sum(axis=1), 1e-12)
    return (pos * (below + neg / 2)).sum(axis=1) / pairs


def resampled(truth, output, weights):
    """Return the headline metric of each resample."""
    if UP and len(np.unique(truth)) == 2:
        parts = np.array_split(weights, max(1, weights.size // 4_000_000))
        return np.concatenate([weighted_auc(truth, output[:, 1], part) for part in parts])
    size = weights.sum(axis=1)
    if CLASSES:
        chance = np.clip(output[np.arange(len(truth)), truth], 1e-15, 1)
        return -(weights @ np.log(chance)) / size
    return np.sqrt(weights @ (output - truth) ** 2 / size)


def more_metrics(output):
    """Return the other metrics of the leaderboard."""
    if not CLASSES:
        return {"mae": mean_absolute_error(y_val, output), "r2": r2_score(y_val, output)}
    found = {"accuracy": accuracy_score(y_val, output.argmax(axis=1))}
    if CLASSES == 2:
        found["pr_auc"] = average_precision_score(y_val, output[:, 1])
        found["log_loss"] = log_loss(y_val, output, labels=[0, 1])
    guess = output.argmax(axis=1)
    found["macro_f1"] = f1_score(y_val, guess, average="macro", zero_division=0)
    return found


def train_score(model):
    """Return the headline on rows that the model was fitted on (a sample of them)."""
    rows = np.random.default_rng(SEED).permutation(len(y))[:2_000]
    fitted = joblib.load(f"work/{model['slug']}.fitted.pkl")
    single = Blend([fitted], [1.0], SETUP["classes"], ceiling=CEILING).take([fitted])
    output = single.predict_proba(X[rows]) if CLASSES else single.predict(X[rows])
    return headline(y[rows], output), output


def judge(model, weights):
    """Add the scores of one model, and what it is chosen by: on few rows, held-out ones too."""
    seen = np.isfinite(model["oof"].reshape(len(y), -1)[:, 0])
    model["held_out"] = headline(y[seen], model["oof"][seen])
    model["score"] = headline(y_val, model["val"])
    model["draws"] = resampled(y_val, model["val"], weights)
    if len(y) >= 1_000:
        model["select"], model["spread"] = model["score"], model["draws"]
        return
    truth, output = np.r_[y[seen], y_val], np.concatenate([model["oof"][seen], model["val"]])
    model["select"] = headline(truth, output)
    model["spread"] = resampled(truth, output, resample(len(truth)))


def choose(models):
    """Return (winner, sentences): the blend, unless a single model is clearly better."""
    sign = 1 if UP else -1
    single = max((m for m in models if m["family"] != "ensemble"), key=lambda m: sign * m["select"])
    mixed = next((m for m in models if m["family"] == "ensemble"), None)
    basis = "held-out training rows and validation rows together" if len(y) < 1_000 else (
        "validation rows")  # fmt: skip
    if mixed is None:
        return single, [
            f"No blend beats its best member, so the best single model by {basis} wins."
        ]
    gain = sign * (mixed["spread"] - single["spread"])
    low, high = np.quantile(gain, [0.025, 0.975])
    clear = sign * (single["select"] - mixed["select"]) > float(gain.std())
    winner = single if clear else mixed
    word = {"roc_auc": "ROC-AUC", "log_loss": "log-loss", "rmse": "RMSE"}[METRIC]
    lines = [f"Chosen by {word} on {basis}: {winner['name']}."]
    if low <= 0 <= high:
        lines.append(f"Ensemble and {single['name']} are a tie: the gap of {gain.mean():+.4f} "
                     f"(95 % interval {low:+.4f} to {high:+.4f}) may be chance.")  # fmt: skip
        if winner is mixed:
            lines.append("Among ties the blend is taken, since an average varies less on new rows.")
    else:
        side = "ahead of" if gain.mean() > 0 else "behind"
        lines.append(f"The ensemble is {side} {single['name']} beyond chance ({low:+.4f} to "
                     f"{high:+.4f}).")  # fmt: skip
    return winner, lines


def pick_threshold(model):
    """Return a threshold with the highest MCC on held-out training and validation rows."""
    seen = np.isfinite(model["oof"][:, 0])
    truth = np.r_[y[seen], y_val]
    chance = np.r_[model["oof"][seen, 1], model["val"][:, 1]]
    rows = []
    for edge in np.linspace(0.02, 0.98, 97).round(4):
        guess = (chance >= edge).astype(int)
        caught = int((guess & truth).sum())
        rows.append({
            "threshold": edge, "mcc": matthews_corrcoef(truth, guess),
            "f1": f1_score(truth, guess, zero_division=0), "recall": caught / max(truth.sum(), 1),
            "precision": caught / guess.sum() if guess.sum() else np.nan,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv("work/thresholds.csv", index=False)
    flat = table["mcc"].rolling(5, center=True, min_periods=1).mean()  # ignore lone peaks
    good = table["threshold"][flat >= flat.max() - 0.01]  # as good as the best: nearest to a half
    return float(good.loc[(good - 0.5).abs().idxmin()])


def write_leaderboard(models, winner):
    """Write the ranking, baselines included."""
    rows = []
    for model in models:
        low, high = np.quantile(model["draws"], [0.025, 0.975])
        row = {"model": model["name"], "family": model["family"], "metric": METRIC,
               "val": model["score"], "val_low": low, "val_high": high,
               "held_out": model.get("held_out"), "train": model.get("train"),
               "weight": model.get("weight", 0.0), "chosen": model is winner}  # fmt: skip
        rows.append({**row, **{f"val_{k}": v for k, v in more_metrics(model["val"]).items()}})
    table = pd.DataFrame(rows).sort_values(["val", "model"], ascending=[not UP, True])
    table.round(6).to_csv("data/leaderboard.csv", index=False)
    return table


def save_winner(winner, members, threshold):
    """Store the winner fitted on training rows, its recipe, and its validation predictions."""
    parts = [m for m in members if m["weight"] > 0] if winner["family"] == "ensemble" else [winner]
    shares = [float(m["weight"]) if len(parts) > 1 else 1.0 for m in parts]
    recipes = [joblib.load(f"work/{m['slug']}.recipe.pkl") for m in parts]
    model = Blend(recipes, shares, SETUP["classes"], threshold, CEILING)
    joblib.dump(model, "work/final.recipe.pkl")
    model.take([joblib.load(f"work/{m['slug']}.fitted.pkl") for m in parts])
    joblib.dump(model, "work/final.train.pkl")
    labels = np.array(SETUP["classes"], dtype=object) if CLASSES else None
    table = pd.DataFrame({"position": DATA["val_rows"]})
    table["y_true"] = y_val if labels is None else pd.Series(labels[y_val]).infer_objects()
    table["y_pred"] = model.predict(X_val)
    if labels is not None:
        shares_val = model.predict_proba(X_val)
        for place, label in enumerate(labels):
            table[f"proba_{label}"] = shares_val[:, place]
    table.to_parquet("data/val_predictions.parquet")
    np.save("work/oof_final.npy", winner["oof"])
    np.save("work/val_final.npy", winner["val"])
    return [{"name": m["name"], "slug": m["slug"], "weight": round(w, 6)}
            for m, w in zip(parts, shares, strict=True)]  # fmt: skip


members = load_models()
weights = resample(len(y_val))
for model, weight in zip(members, blend(members), strict=True):
    model["weight"] = float(weight)
    model["train"] = train_score(model)[0]
models = list(members)
mixed = [m for m in members if m["weight"] > 0]
if len(mixed) > 1:
    models.append({
        "name": "Ensemble", "slug": "ensemble", "family": "ensemble",
        "oof": sum(m["weight"] * m["oof"] for m in mixed),
        "val": sum(m["weight"] * m["val"] for m in mixed),
        "train": None,
    })  # fmt: skip
    outputs = [m["weight"] * train_score(m)[1] for m in mixed]
    rows = np.random.default_rng(SEED).permutation(len(y))[:2_000]
    models[-1]["train"] = headline(y[rows], sum(outputs))
for model in models:
    judge(model, weights)
winner, sentences = choose(models)
threshold = pick_threshold(winner) if CLASSES == 2 else 0.5
baselines = json.loads(Path("work/baselines.json").read_text("utf-8"))
for model in baselines:
    model["val"] = np.load(f"work/val_{model['slug']}.npy")
    model["score"] = headline(y_val, model["val"])
    model["draws"] = resampled(y_val, model["val"], weights)
table = write_leaderboard([*models, *baselines], winner)
parts = save_winner(winner, members, threshold)
log(step=0, metrics={f"val_{METRIC}": winner["score"]}, run=winner["name"])

print(f"{'on validation rows':26} {METRIC:>9}   95 % interval")
for row in table.to_dict("records"):
    mark = "<- chosen" if row["chosen"] else ""
    span = f"{row['val_low']:.4f} to {row['val_high']:.4f}"
    print(f"{row['model']:26} {row['val']:9.4f}   {span} {mark}")
print("Final model: " + " + ".join(f"{p['weight']:.2f} {p['name']}" for p in parts) + ".")
for sentence in sentences:
    print(sentence)
if CLASSES == 2:
    print(f"Threshold {threshold:.2f}: the highest MCC on held-out training and validation rows.")
facts = {
    "name": winner["name"], "family": winner["family"], "members": parts, "threshold": threshold,
    "sentences": sentences, "val": winner["score"], "train": winner["train"],
    "val_ci95": [float(v) for v in np.quantile(winner["draws"], [0.025, 0.975])],
    "models": [m["name"] for m in [*baselines, *models]],
}  # fmt: skip
Path("work/winner.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")

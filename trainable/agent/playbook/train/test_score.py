"""Refit the final model, score the test once. It is saved from raw row to prediction."""

import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import sklearn
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from trainable import log

sys.path[:0] = ["models", "../prep/data"]

# Parameters
SEED = 42
RESAMPLES = 1000
REFIT = True
# End of parameters

PREP = Path("../prep/data")
SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
WINNER = json.loads(Path("work/winner.json").read_text("utf-8"))
DATA = np.load("work/arrays.npz")
CLASSES = SETUP["classes"]
METRIC = SETUP["metric"]


def to_labels(codes):
    """Return labels in place of codes; numbers stay numbers."""
    return codes if CLASSES is None else [CLASSES[code] for code in codes]


def final_model():
    """Return the winner, fitted on training rows and, where wanted, validation rows too."""
    model = joblib.load("work/final.recipe.pkl")
    if not REFIT:
        return joblib.load("work/final.train.pkl")
    X, y = np.concatenate([DATA["X"], DATA["X_val"]]), np.r_[DATA["y"], DATA["y_val"]]
    return model.fit(X, to_labels(y))


def save_model(model):
    """Write the pipeline from raw row to prediction, and the code that it needs beside it."""
    if (PREP / "prep_pipeline.py").exists():
        shutil.copyfile(PREP / "prep_pipeline.py", "models/prep_pipeline.py")
    steps = [("model", model)]
    if (PREP / "prep_pipeline.pkl").exists():
        steps.insert(0, ("prep", joblib.load(PREP / "prep_pipeline.pkl")))
    joblib.dump(Pipeline(steps), "models/model.pkl", compress=3)


def read_test():
    """Return position, features and target of the test rows: the only place that opens them."""
    table = pd.read_parquet(PREP / "test.parquet")
    truth = table[SETUP["target"]].astype(object)
    features = table[SETUP["features"]].to_numpy(dtype=np.float64)
    if CLASSES is None:
        return np.arange(len(table)), features, truth.to_numpy(dtype=np.float64)
    codes = truth.map({label: code for code, label in enumerate(CLASSES)}).fillna(-1)
    codes = codes.to_numpy(dtype=int)
    rows = np.flatnonzero(codes >= 0)
    if len(rows) < len(codes):
        print(f"{len(codes) - len(rows)} test rows have a label that training never saw: left out.")
    return rows, features[rows], codes[rows]


def ranking(truth, chance, weights):
    """Return ROC-AUC and average precision for each line of weights; ties count half."""
    order = np.argsort(-chance, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(chance[order]) != 0])
    pos = np.add.reduceat((weights * truth)[:, order], starts, axis=1)
    neg = np.add.reduceat((weights * (1 - truth))[:, order], starts, axis=1)
    all_pos = np.maximum(pos.sum(axis=1), 1e-12)
    all_neg = np.maximum(neg.sum(axis=1), 1e-12)
    caught, wrong = np.cumsum(pos, axis=1), np.cumsum(neg, axis=1)
    below = neg.sum(axis=1, keepdims=True) - wrong
    auc = (pos * (below + neg / 2)).sum(axis=1) / (all_pos * all_neg)
    precision = caught / np.maximum(caught + wrong, 1e-12)
    return auc, (pos * precision).sum(axis=1) / all_pos


def label_scores(truth, guess, weights):
    """Return metrics of predicted labels for each line of weights, from confusion matrices."""
    count = len(CLASSES)
    cells = np.zeros((len(truth), count * count))
    cells[np.arange(len(truth)), truth * count + guess] = 1
    table = (weights @ cells).reshape(-1, count, count)
    hit = np.einsum("bii->bi", table)
    real, said, size = table.sum(axis=2), table.sum(axis=1), table.sum(axis=(1, 2))
    f1 = 2 * hit / np.maximum(real + said, 1e-12)
    there, known = (real + said) > 0, real > 0
    spread = (size**2 - (said**2).sum(axis=1)) * (size**2 - (real**2).sum(axis=1))
    agree = hit.sum(axis=1) * size - (real * said).sum(axis=1)
    recall = hit / np.maximum(real, 1e-12)
    found = {
        "accuracy": hit.sum(axis=1) / size,
        "balanced_accuracy": recall.sum(axis=1) / known.sum(axis=1),
        "mcc": np.where(spread > 0, agree / np.sqrt(np.maximum(spread, 1e-12)), 0.0),
        "macro_f1": f1.sum(axis=1) / there.sum(axis=1),
        "weighted_f1": (f1 * real).sum(axis=1) / size,
    }
    if count == 2:
        precision = hit[:, 1] / np.maximum(said[:, 1], 1e-12)
        found |= {"f1": f1[:, 1], "precision": precision, "recall": recall[:, 1]}
    return found


def all_scores(truth, output, guess, weights):
    """Return every metric of the task for each line of weights."""
    size = weights.sum(axis=1)
    if CLASSES is None:
        square = weights @ (output - truth) ** 2
        mean = (weights @ truth) / size
        total = np.maximum(weights @ truth**2 - size * mean**2, 1e-300)
        found = {"rmse": np.sqrt(square / size), "mae": weights @ np.abs(output - truth) / size,
                 "r2": 1 - square / total}  # fmt: skip
        if truth.min() > 0:
            found["mape"] = weights @ (np.abs(output - truth) / truth) / size
        return found
    chance = np.clip(output[np.arange(len(truth)), truth], 1e-15, 1)
    one_hot = np.eye(len(CLASSES))[truth]
    found = {"log_loss": -(weights @ np.log(chance)) / size, **label_scores(truth, guess, weights)}
    if len(CLASSES) == 2:
        found["brier"] = weights @ (output[:, 1] - truth) ** 2 / size
        if len(np.unique(truth)) == 2:
            found["roc_auc"], found["pr_auc"] = ranking(truth, output[:, 1], weights)
    else:
        found["brier"] = weights @ ((output - one_hot) ** 2).sum(axis=1) / size
    return found


def intervals(truth, output, guess, groups):
    """Return 95 % intervals from resampled rows (or whole groups, where rows come in groups)."""
    rng = np.random.default_rng(SEED)
    units = int(groups.max()) + 1
    step = max(1, 4_000_000 // len(truth))
    draws = []
    for start in range(0, RESAMPLES, step):
        lines = [np.bincount(rng.integers(0, units, units), minlength=units)[groups]
                 for _ in range(min(step, RESAMPLES - start))]  # fmt: skip
        draws.append(all_scores(truth, output, guess, np.array(lines, dtype=np.float64)))
    names = sorted(draws[0])
    joined = {name: np.concatenate([draw[name] for draw in draws]) for name in names}
    return {name: [float(v) for v in np.quantile(joined[name], [0.025, 0.975])] for name in names}


def calibration(truth, output):
    """Return Brier score and expected calibration error (10 bins of equal size)."""
    if CLASSES is None:
        return None
    top = output[:, 1] if len(CLASSES) == 2 else output.max(axis=1)
    right = truth if len(CLASSES) == 2 else (output.argmax(axis=1) == truth).astype(int)
    order = np.argsort(top, kind="stable")
    bins = np.array_split(order, min(10, max(1, len(order) // 10)))
    gaps = [len(part) * abs(top[part].mean() - right[part].mean()) for part in bins]
    square = (output[:, 1] - truth) ** 2 if len(CLASSES) == 2 else (
        (output - np.eye(len(CLASSES))[truth]) ** 2).sum(axis=1)  # fmt: skip
    return {"brier": float(square.mean()), "ece": float(sum(gaps) / len(order))}


def dummy_output(rows):
    """Return what a model that knows only the training target would say."""
    y = DATA["y"]
    if CLASSES is None:
        return np.full(rows, y.mean()), None
    shares = np.bincount(y, minlength=len(CLASSES)) / len(y)
    return np.tile(shares, (rows, 1)), np.full(rows, int(shares.argmax()))


def row_ids(positions):
    """Return the raw row numbers of test rows, or None where Prep kept no record."""
    if not (PREP / "splits.parquet").exists():
        return None
    splits = pd.read_parquet(PREP / "splits.parquet")
    splits = splits[splits["split"] == "test"].set_index("position")["row_id"]
    return splits.reindex(positions).to_numpy()


def test_groups(ids, count):
    """Return a group number for each test row; each row is its own where there are none."""
    if not SETUP["group"] or ids is None or not os.environ.get("TRAINABLE_DATASET"):
        return np.arange(count)
    from trainable import read_raw

    return pd.factorize(read_raw()[SETUP["group"]].iloc[ids], use_na_sentinel=False)[0]


def point(truth, output, guess):
    found = all_scores(truth, output, guess, np.ones((1, len(truth))))
    return {name: float(value[0]) for name, value in sorted(found.items())}


def answers(model, features):
    """Return (numbers or probabilities, codes of predicted labels)."""
    if CLASSES is None:
        return model.predict(features), None
    shares = model.predict_proba(features)
    if len(CLASSES) == 2:
        return shares, (shares[:, 1] >= model.threshold).astype(int)
    return shares, shares.argmax(axis=1)


def prediction_table(positions, ids, truth, output, guess):
    table = pd.DataFrame({"position": positions})
    if ids is not None:
        table["row_id"] = ids
    table["y_true"] = to_labels(truth)
    table["y_pred"] = output if CLASSES is None else to_labels(guess)
    for place, label in enumerate(CLASSES or []):
        table[f"proba_{label}"] = output[:, place]
    return table


def per_class(truth, guess):
    """Return precision, recall and rows of each class."""
    if CLASSES is None:
        return None
    found = {}
    for code, label in enumerate(CLASSES):
        hit = int(((truth == code) & (guess == code)).sum())
        real, said = int((truth == code).sum()), int((guess == code).sum())
        found[str(label)] = {"rows": real, "recall": hit / real if real else None,
                             "precision": hit / said if said else None}  # fmt: skip
    return found


started = time.perf_counter()
with threadpool_limits(SETUP["threads"]):
    model = final_model()
fit_seconds = time.perf_counter() - started
save_model(model)
watched = joblib.load("work/final.train.pkl")
val_output, val_guess = answers(watched, DATA["X_val"])

positions, features, truth = read_test()
started = time.perf_counter()
output, guess = answers(model, features)
predict_ms = (time.perf_counter() - started) / max(1, len(truth)) * 1000
ids = row_ids(positions)
groups = test_groups(ids, len(truth))
scores, ci95 = point(truth, output, guess), intervals(truth, output, guess, groups)
prediction_table(positions, ids, truth, output, guess).to_parquet("data/test_predictions.parquet")

headline = METRIC if METRIC in scores else "log_loss"  # no AUC where all test rows are one class
flat, flat_guess = dummy_output(len(truth))
baseline = point(truth, flat, flat_guess)
facts = {
    "headline": {"metric": headline, "value": scores[headline], "ci95": ci95[headline],
                 "rows": len(truth), "baseline": baseline[headline]},
    "test_metrics": scores, "ci95": ci95, "baseline": baseline, "refit": REFIT,
    "val_metrics": point(DATA["y_val"], val_output, val_guess),
    "per_class": per_class(truth, guess),
    "calibration": calibration(truth, output), "resampled": "groups" if len(np.unique(groups)) <
    len(truth) else "rows",
}  # fmt: skip
Path("work/test.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")
versions = {name: sys.modules[name].__version__ for name in ("numpy", "pandas", "joblib")}
env = {"python": platform.python_version(), "scikit-learn": sklearn.__version__, **versions}
info = {"fit_seconds": fit_seconds, "predict_ms_per_row": predict_ms, "env": env,
        "threads": SETUP["threads"]}  # fmt: skip
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")
log(step=0, metrics={f"test_{name}": value for name, value in scores.items()}, run=WINNER["name"])

fitted_on = "training and validation rows" if REFIT else "training rows"
low, high = ci95[headline]
print(f"{WINNER['name']}, fitted on {fitted_on}, scored once on {len(truth):,} test rows:")
print(f"{headline} = {scores[headline]:.4f}, 95 % interval {low:.4f} to {high:.4f} "
      f"(nothing learned: {baseline[headline]:.4f})")  # fmt: skip
for name, value in scores.items():
    if name != headline:
        print(f"  {name:18} {value:10.4f}   {ci95[name][0]:.4f} to {ci95[name][1]:.4f}")
print("models/model.pkl takes raw rows and predicts; models/predict.py does it from a file.")

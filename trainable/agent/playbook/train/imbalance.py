"""Compare ways to treat rare classes. Leave them, weigh them, or add synthetic rows (SMOTE)."""

import json
from pathlib import Path

import joblib
import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import Pipeline
from sklearn.base import clone
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from trainable import log

# Parameters
SEED = 42
# End of parameters

SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
CLASSES = len(SETUP["classes"] or [])
DATA = np.load("work/arrays.npz")
X, y, X_val, y_val = (DATA[name] for name in ("X", "y", "X_val", "y_val"))


def fit_answer(model, rows, asked):
    """Fit on `rows`, return probabilities for the features `asked`, and the fitted model."""
    fitted = clone(model).fit(X[rows], y[rows])
    shares = np.zeros((len(asked), CLASSES))
    shares[:, fitted.classes_] = fitted.predict_proba(asked)
    return shares / shares.sum(axis=1, keepdims=True), fitted


def hold_out(model):
    """Return predictions for held-out training rows; synthetic rows stay out of them."""
    total, times = np.zeros((len(y), CLASSES)), np.zeros(len(y))
    for fold in np.load("work/folds.npy")[:1]:
        for part in range(fold.max() + 1):
            fit_on = fold < part if SETUP["scheme"] == "forward" else fold != part
            asked = np.flatnonzero(fold == part)
            total[asked] += fit_answer(model, np.flatnonzero(fit_on), X[asked])[0]
            times[asked] += 1
    total[times == 0] = np.nan
    return total


def best_threshold(truth, chance):
    """Return the threshold with the highest F1 on held-out training rows."""
    edges = np.linspace(0.02, 0.98, 97)
    return edges[int(np.argmax([f1_score(truth, chance >= e, zero_division=0) for e in edges]))]


def measure(truth, shares, edge):
    """Return the metrics that rare classes are judged by."""
    known = np.arange(CLASSES)
    found = {"log_loss": log_loss(truth, shares, labels=known)}
    if CLASSES == 2 and len(np.unique(truth)) == 2:
        found["roc_auc"] = roc_auc_score(truth, shares[:, 1])
        found["pr_auc"] = average_precision_score(truth, shares[:, 1])
        found["f1"] = f1_score(truth, shares[:, 1] >= edge, zero_division=0)
    else:
        guess = shares.argmax(axis=1)
        found["f1"] = f1_score(truth, guess, average="macro", zero_division=0)
    return {name: round(float(value), 6) for name, value in found.items()}


def smallest_fold():
    """Return how many rows the rarest class has wherever a model is fitted."""
    fold = np.load("work/folds.npy")[0]
    parts = range(fold.max() + 1)
    forward = SETUP["scheme"] == "forward"
    masks = [(fold < part) if forward else (fold != part) for part in parts]
    return min(int(np.bincount(y[mask], minlength=CLASSES).min()) for mask in masks)


def variants():
    """Return the recipes to compare with the plain one."""
    plain = joblib.load("work/lightgbm.recipe.pkl")
    weighted = clone(plain).set_params(class_weight="balanced")
    found = [("LightGBM (class weights)", "lightgbm_weights", weighted)]
    neighbors = min(5, smallest_fold() - 1)
    if neighbors < 1 or X.size > 20_000_000:
        why = "a class has too few rows" if neighbors < 1 else "the table is too large for it"
        print(f"SMOTE is left out: {why}.")
        return found
    smote = SMOTE(k_neighbors=neighbors, random_state=SEED)
    pipeline = Pipeline([("smote", smote), ("model", plain)])
    return [*found, ("LightGBM (SMOTE)", "lightgbm_smote", pipeline)]


def judge(name, held_out, val):
    seen = np.isfinite(held_out[:, 0])
    edge = best_threshold(y[seen], held_out[seen, 1]) if CLASSES == 2 else 0.5
    row = {"name": name, "held_out": measure(y[seen], held_out[seen], edge)}
    row["val"] = measure(y_val, val, edge)
    row["threshold"] = round(float(edge), 4)
    cells = "  ".join(f"{key} {value:.4f}" for key, value in row["val"].items())
    print(f"{name:26} {cells}" + (f"   at threshold {edge:.2f}" if CLASSES == 2 else ""))
    return row


def compare():
    """Judge all ways and say in words which one to prefer."""
    print("On validation rows:")
    rows = [judge("LightGBM", np.load("work/oof_lightgbm.npy"), np.load("work/val_lightgbm.npy"))]
    entries = []
    for name, slug, recipe in variants():
        held_out = hold_out(recipe)
        val, fitted = fit_answer(recipe, np.arange(len(y)), X_val)
        np.save(f"work/oof_{slug}.npy", held_out)
        np.save(f"work/val_{slug}.npy", val)
        joblib.dump(recipe, f"work/{slug}.recipe.pkl")
        joblib.dump(fitted, f"work/{slug}.fitted.pkl")
        rows.append(judge(name, held_out, val))
        entries.append({"name": name, "slug": slug, "family": "imbalance"})
        if SETUP["metric"] in rows[-1]["val"]:
            value = rows[-1]["val"][SETUP["metric"]]
            log(step=0, metrics={f"val_{SETUP['metric']}": value}, run=name)
    return rows, entries


def prefer(rows):
    """Return the name of the way that is better both on held-out and on validation rows."""
    metric = SETUP["metric"]
    sign = 1 if metric == "roc_auc" else -1
    plain, best = rows[0], rows[0]
    for row in rows[1:]:
        gains = [sign * (row[part].get(metric, 0) - plain[part].get(metric, 0))
                 for part in ("held_out", "val")]  # fmt: skip
        if min(gains) > 0 and sign * (row["val"][metric] - best["val"][metric]) > 0:
            best = row
    return best["name"]


facts = {"rows": [], "models": [], "preferred": None}
if not SETUP["imbalanced"]:
    print("No class is more than three times as frequent as another, so nothing needs treatment."
          if CLASSES else "The target is a number, so there are no rare classes.")  # fmt: skip
else:
    with threadpool_limits(SETUP["threads"]):
        facts["rows"], facts["models"] = compare()
    facts["preferred"] = prefer(facts["rows"])
    if facts["preferred"] == "LightGBM":
        print("Neither way is better on both held-out and validation rows: classes stay as they")
        print("are, and the decision threshold takes care of the rare one.")
    else:
        print(f"{facts['preferred']} is better on both held-out and validation rows.")
Path("work/imbalance.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")

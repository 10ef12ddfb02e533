"""Score a constant and a single rule. Models are compared with that bar."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from trainable import configure_dashboard, log

# Parameters
TARGET: str | None = None
GROUP: str | None = None
TIME: str | None = None
SEED = 42
# End of parameters

PREP = Path("../prep/data")
YES = {"1", "1.0", "true", "yes", "y", "t", "positive", "pos"}


def refuse(sentence):
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def read_split(name, target):
    """Return the features as numbers, and the target, of one of Prep's files."""
    file = PREP / f"{name}.parquet"
    if not file.exists():
        refuse(f"Prep left no {name}.parquet, so run Prep again.")
    table = pd.read_parquet(file)
    if target not in table:
        refuse(f"Prep's {name}.parquet has no target column, so run Prep again.")
    features = table.drop(columns=[target])
    text = [c for c in features if not pd.api.types.is_numeric_dtype(features[c])]
    if text:
        refuse(f"{len(text)} prepared columns hold no numbers; Prep has to encode them first.")
    values = features.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        refuse(f"Prep's {name}.parquet has empty or infinite cells; Prep has to fill them first.")
    return list(features.columns), values, table[target].astype(object)


def order_classes(labels):
    """Return the labels to predict; of two, the one that a question is about comes second."""
    counts = labels.value_counts()
    classes = sorted(counts.index.tolist(), key=lambda label: (str(type(label)), label))
    if len(classes) != 2:
        return classes
    yes = [label for label in classes if str(label).strip().lower() in YES]
    positive = yes[0] if len(yes) == 1 else min(reversed(classes), key=lambda c: counts[c])
    return [label for label in classes if label != positive] + [positive]


def train_column(name):
    """Return a raw column, in the order of the training rows, or None where it can't be read."""
    if name is None or not os.environ.get("TRAINABLE_DATASET"):
        return None
    from trainable import read_raw

    raw = read_raw()
    if name not in raw or not (PREP / "splits.parquet").exists():
        return None
    rows = pd.read_parquet(PREP / "splits.parquet")
    rows = rows[rows["split"] == "train"]
    return raw[name].iloc[rows.sort_values("position")["row_id"].to_numpy()].reset_index(drop=True)


def deal(count, groups, labels, folds, rng):
    """Give each row a fold: whole groups together, or else every class spread evenly."""
    if groups is not None:
        names, sizes = np.unique(groups, return_counts=True)
        load = np.zeros(folds)
        fold_of = np.zeros(len(names), dtype=int)
        shuffled = rng.permutation(len(names))
        for place in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            fold_of[place] = load.argmin()
            load[fold_of[place]] += sizes[place]
        return fold_of[np.searchsorted(names, groups)]
    shuffled = rng.permutation(count)
    if labels is not None:
        shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(count, dtype=int)
    fold[shuffled] = np.arange(count) % folds
    return fold


def make_folds(count, width, groups, moments, labels):
    """Return (scheme, one row of fold numbers per repeat); -1 = never held out."""
    rng = np.random.default_rng(SEED)
    if moments is not None:
        rank = np.argsort(np.argsort(moments, kind="stable"), kind="stable")
        blocks = 4 if count <= 20_000 else 2
        return "forward", (rank * blocks // count - 1)[None, :]
    if count > 20_000:
        fold = deal(count, groups, labels, 5, rng)
        return "holdout", np.where(fold == 0, 0, -1)[None, :]
    folds = 5 if count <= 6_000 else 3
    if groups is not None:
        folds = max(2, min(folds, len(np.unique(groups))))
    repeats = 2 if count < 1_000 and width <= 500 else 1
    folds = min(folds, count)
    return "kfold", np.array([deal(count, groups, labels, folds, rng) for _ in range(repeats)])


def teachable(scheme, folds, labels):
    """Whether every part to fit on holds more than one class."""
    for fold in folds:
        for part in range(fold.max() + 1):
            fit_on = fold < part if scheme == "forward" else fold != part
            if len(np.unique(labels[fit_on])) < 2:
                return False
    return True


def read_order(moments):
    """Turn a time column into numbers to sort by."""
    if moments is None:
        return None
    if pd.api.types.is_numeric_dtype(moments):
        return moments.astype(float).fillna(-np.inf).to_numpy()
    moments = pd.to_datetime(moments, errors="coerce", utc=True, format="mixed")
    return moments.astype("int64").to_numpy()


def guess(model, train, labels, rows):
    model.fit(train, labels)
    if PROBLEM == "regression":
        return model.predict(rows)
    prior = np.bincount(labels) / len(labels)  # a rule is never sure: some prior is mixed in
    return 0.95 * model.predict_proba(rows) + 0.05 * prior


def score(truth, output):
    """Return the headline metric."""
    if PROBLEM == "regression":
        return root_mean_squared_error(truth, output)
    if PROBLEM == "binary" and len(np.unique(truth)) == 2:
        return roc_auc_score(truth, output[:, 1])
    return log_loss(truth, output, labels=np.arange(len(CLASSES)))


metadata = json.loads((PREP / "metadata.json").read_text("utf-8"))
target = metadata.get("target_column") or TARGET
names, X_train, raw_train = read_split("train", target)
same, X_val, raw_val = read_split("val", target)
if same != names:
    refuse("Prep's train and val files have different columns, so run Prep again.")
if len(X_train) < 10:
    refuse(f"Only {len(X_train)} training rows are left, which is too few to learn from.")

regression = metadata.get("problem_type", metadata.get("task")) == "regression"
CLASSES = None if regression else order_classes(raw_train)
if CLASSES is not None and len(CLASSES) < 2:
    refuse("Every training row has the same label, so there is nothing to learn.")
PROBLEM = "regression" if CLASSES is None else "binary" if len(CLASSES) == 2 else "multiclass"
METRIC = {"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}[PROBLEM]
if CLASSES is None:
    y_train, y_val = (s.to_numpy(dtype=np.float64) for s in (raw_train, raw_val))
else:
    code_of = {label: code for code, label in enumerate(CLASSES)}
    y_train, y_val = (s.map(code_of).fillna(-1).to_numpy(dtype=int) for s in (raw_train, raw_val))
    unknown = int((y_val < 0).sum())
    if unknown:
        print(f"{unknown} validation rows have a label that training never saw: left out.")
val_rows = np.arange(len(y_val)) if CLASSES is None else np.flatnonzero(y_val >= 0)
X_val, y_val = X_val[val_rows], y_val[val_rows]

group_name, time_name = metadata.get("group_column") or GROUP, metadata.get("time_column") or TIME
strategy = str(metadata.get("split_strategy", ""))
groups = train_column(group_name)
moments = read_order(train_column(time_name)) if "time" in strategy or TIME else None
codes = None if groups is None else pd.factorize(groups, use_na_sentinel=False)[0]
codes = codes if codes is None or len(np.unique(codes)) > 1 else None
SCHEME, folds = make_folds(
    len(y_train), len(names), codes, moments, None if regression else y_train
)
if CLASSES is not None and not teachable(SCHEME, folds, y_train):
    print("By group or time some parts would hold one class only, so parts are drawn at random.")
    codes, moments, groups = None, None, None
    SCHEME, folds = make_folds(len(y_train), len(names), None, None, y_train)

shutil.rmtree("work", ignore_errors=True)
for folder in ("work", "data", "models", "figures"):
    Path(folder).mkdir(exist_ok=True)
np.savez("work/arrays.npz", X=X_train, y=y_train, X_val=X_val, y_val=y_val, val_rows=val_rows)
np.save("work/folds.npy", folds)

share = None if CLASSES is None else np.bincount(y_train, minlength=len(CLASSES)) / len(y_train)
counts = {"train": len(y_train), "val": len(y_val)}
allowed = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
setup = {
    "target": target, "problem": PROBLEM, "metric": METRIC, "classes": CLASSES,
    "features": names, "rows": counts, "scheme": SCHEME, "group": group_name if groups is not None
    else None, "forward": moments is not None, "folds": int(folds.max()) + 1,
    "repeats": len(folds), "threads": 1 if len(y_train) < 2_000 else min(2, allowed),
    "imbalanced": share is not None and float(share.max() / share.min()) > 3.0,
    "class_share": None if share is None else {
        str(c): round(float(s), 4) for c, s in zip(CLASSES, share, strict=True)},
}  # fmt: skip
Path("work/setup.json").write_text(json.dumps(setup, indent=2, sort_keys=True), "utf-8")

loss = {"regression": "rmse"}.get(PROBLEM, "log_loss")
configure_dashboard(
    [
        {"title": f"Loss while boosting ({loss})", "metrics": ["train_loss", "val_loss"],
         "type": "line"},
        {"title": f"Validation {METRIC} by model", "metrics": [f"val_{METRIC}"], "type": "bar"},
        {"title": f"Tuning trials ({loss})", "metrics": ["trial_loss", "best_loss"],
         "type": "scatter"},
    ]
)  # fmt: skip
dummy = DummyRegressor() if regression else DummyClassifier(strategy="prior")
rule = (
    DecisionTreeRegressor(max_depth=1, random_state=SEED)
    if regression
    else DecisionTreeClassifier(max_depth=1, random_state=SEED)
)
how = {
    "kfold": f"{setup['folds']}-fold cross-validation on training rows",
    "holdout": "a fifth of the training rows held out",
    "forward": "blocks of later training rows",
}
print(f"{counts['train']:,} training and {counts['val']:,} validation rows, {len(names)} features.")
print(f"Task: {PROBLEM}; headline metric {METRIC}. Models are judged by {how[SCHEME]}")
print("and by the validation rows. The test file stays closed.")
entries = []
for name, slug, model in (("Dummy", "dummy", dummy), ("One rule", "one_rule", rule)):
    output = guess(model, X_train, y_train, X_val)
    value = score(y_val, output)
    np.save(f"work/val_{slug}.npy", output)
    entries.append({"name": name, "slug": slug, "family": "baseline", "params": {}})
    log(step=0, metrics={f"val_{METRIC}": value}, run=name)
    print(f"{name:10} validation {METRIC} = {value:.4f}")
used = rule.tree_.feature[0]
if used >= 0:
    column, edge = str(names[used])[:60], rule.tree_.threshold[0]
    print(f"The rule asks one thing: is {column!r} at most {edge:.4g}?")
Path("work/baselines.json").write_text(json.dumps(entries, indent=2, sort_keys=True), "utf-8")

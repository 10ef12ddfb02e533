"""Check what a Train stage left behind, whichever agent wrote it; run in the stage's folder."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics as measure

# Parameters
LOGGED_METRICS: int | None = None
SEED = 42
# End of parameters

PREP = Path("../prep/data")
FOUND = {"passed": [], "warnings": [], "errors": []}
KEYS = {"best_model": str, "best_model_params": dict, "models_evaluated": list,
        "test_metrics": dict, "feature_importance": dict, "class_imbalance_strategy": str,
        "tuning_method": str, "tuning_trials": int, "random_seed": int}  # fmt: skip
PROBLEMS = (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError,
            ArithmeticError, RuntimeError, MemoryError)  # fmt: skip
ALIASES = {"auc": "roc_auc", "average_precision": "pr_auc", "f1_score": "f1", "logloss": "log_loss",
           "f1_macro": "macro_f1", "r2_score": "r2", "root_mean_squared_error": "rmse",
           "mean_absolute_error": "mae", "f1_weighted": "weighted_f1"}  # fmt: skip
CLEAN = """
import sys
sys.path[:0] = ["models", "../prep/data"]
import joblib, numpy as np, pandas as pd
model = joblib.load("models/model.pkl")
rows = pd.read_pickle(sys.argv[1])
answer = {"prediction": np.asarray(model.predict(rows)).ravel()}
if hasattr(model, "predict_proba"):
    shares = np.asarray(model.predict_proba(rows))
    answer["classes"] = list(getattr(model, "classes_", range(shares.shape[1])))
    answer["shares"] = shares
pd.to_pickle(answer, sys.argv[2])
"""


def say(level, code, message, **evidence):
    FOUND[level].append({"code": code, "message": message, **evidence})


def clip(text, width=60):
    line = " ".join(str(text).split())
    return line if len(line) <= width else line[: width - 3] + "..."


def read_json(path):
    """Return what a JSON file holds, or {} with an error that names the file."""
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        say("errors", "file_missing", f"{name} is missing.", path=str(path))
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        found = clip(error)
    if isinstance(found, dict):
        return found
    why = found if isinstance(found, str) else "no object"
    say("errors", "file_unreadable", f"{name} is no valid JSON object: {why}", path=str(path))
    return {}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_metadata(data):
    """Every key of the contract, with its type, and numbers that are finite."""
    bad = [k for k, kind in KEYS.items() if k not in data or not isinstance(data[k], kind)
           or (kind is int and isinstance(data[k], bool))]  # fmt: skip
    if bad:
        say("errors", "metadata_keys", f"metadata.json lacks, or has with another type: "
            f"{', '.join(bad)}.", keys=bad)  # fmt: skip
    else:
        say("passed", "metadata_keys", "metadata.json has all keys, with the right types.")
    scores = data.get("test_metrics")
    if not isinstance(scores, dict):
        return
    odd = [clip(k) for k, v in scores.items()
           if isinstance(v, bool) or (is_number(v) and not np.isfinite(v))]  # fmt: skip
    if odd or not any(is_number(v) for v in scores.values()):
        say("errors", "test_metrics", "test_metrics holds no numbers, or some that are not finite.",
            metrics=odd)  # fmt: skip
    else:
        say("passed", "test_metrics", f"{len(scores)} test metrics, all finite.")


def check_models(data):
    models = data.get("models_evaluated")
    models = models if isinstance(models, list) else []
    real = {str(m) for m in models if "dummy" not in str(m).lower()}
    if len(real) < 2:
        say("errors", "models_evaluated", f"{len(real)} models evaluated; compare two or more.",
            models=sorted(real))  # fmt: skip
    else:
        say("passed", "models_evaluated", f"{len(real)} models were compared.")


def check_logged():
    if LOGGED_METRICS is not None and LOGGED_METRICS > 0:
        say("passed", "metrics_logged", f"{LOGGED_METRICS} metric values were logged.")
    elif LOGGED_METRICS is not None:
        say("errors", "metrics_logged", "No metric was logged; call `log(...)` while training.")


def check_report():
    path = Path("report.md")
    size = path.stat().st_size if path.is_file() else 0
    if size < 200:
        say("errors", "report_missing", "report.md is missing or nearly empty.", bytes=size)
    else:
        say("passed", "report_present", f"report.md has {size} bytes.")
    if not any(Path("figures").glob("*.png")):
        say("warnings", "no_figures", "figures/ holds no PNG.")


def read_prep(name):
    """Return one of Prep's files, or None where it can't be read."""
    try:
        return pd.read_parquet(PREP / f"{name}.parquet")
    except PROBLEMS:
        return None


def raw_test(target):
    """Return the raw test rows without the target, in the order of test.parquet, or None."""
    if not os.environ.get("TRAINABLE_DATASET") or not (PREP / "splits.parquet").is_file():
        return None
    try:
        from trainable import read_raw

        splits = pd.read_parquet(PREP / "splits.parquet")
        rows = splits[splits["split"] == "test"].sort_values("position")["row_id"].to_numpy()
        raw = read_raw().drop(columns=[target], errors="ignore")
        raw.attrs = {}
        return raw.iloc[rows].reset_index(drop=True)
    except PROBLEMS:
        return None


def predict_clean(raw, prepared):
    """Load the model in a fresh process; return (answer, kind of rows it takes, what failed)."""
    failed = "there are no test rows to predict"
    for kind, rows in (("raw", raw), ("prepared", prepared)):
        if rows is None:
            continue
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            given, out = Path(folder) / "rows.pkl", Path(folder) / "answer.pkl"
            rows.to_pickle(given)
            command = [sys.executable, "-B", "-W", "ignore", "-c", CLEAN, str(given), str(out)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=300, check=False
                )
            except subprocess.TimeoutExpired:
                return None, None, "it took more than 300 seconds"
            if out.is_file():
                return pd.read_pickle(out), kind, None
        lines = done.stderr.strip().splitlines() or ["the process ended without a word"]
        failed = clip(lines[-1], 200)
    return None, None, failed


def scores_of(truth, answer, regression):
    """Return metrics by their usual names, from scikit-learn."""
    guess = pd.Series(answer["prediction"])
    if regression:
        guess = guess.astype(float)
        truth = truth.astype(float)
        return {"rmse": measure.root_mean_squared_error(truth, guess),
                "mae": measure.mean_absolute_error(truth, guess),
                "r2": measure.r2_score(truth, guess)}  # fmt: skip
    if not set(guess.map(str)) <= set(truth.map(str)) | set(map(str, answer.get("classes", []))):
        raise ValueError("the model predicts other labels than the target's")
    truth, guess = truth.map(str), guess.map(str)
    found = {
        "accuracy": measure.accuracy_score(truth, guess),
        "balanced_accuracy": np.mean([(guess[truth == c] == c).mean() for c in truth.unique()]),
        "macro_f1": measure.f1_score(truth, guess, average="macro", zero_division=0),
        "weighted_f1": measure.f1_score(truth, guess, average="weighted", zero_division=0),
        "mcc": measure.matthews_corrcoef(truth, guess),
    }
    classes = [str(c) for c in answer.get("classes", [])]
    if "shares" in answer and set(truth) <= set(classes):
        shares = answer["shares"]
        chance = shares[np.arange(len(truth)), truth.map(classes.index).to_numpy()]
        found["log_loss"] = -np.log(np.clip(chance, 1e-15, 1)).mean()
        if len(classes) == 2 and truth.nunique() == 2:
            found["roc_auc"] = measure.roc_auc_score(truth == classes[1], shares[:, 1])
            found["pr_auc"] = measure.average_precision_score(truth == classes[1], shares[:, 1])
            found["brier"] = measure.brier_score_loss(truth == classes[1], shares[:, 1])
        elif truth.nunique() == len(classes) > 2:
            shares, names = shares[:, np.argsort(classes)], sorted(classes)
            found["roc_auc"] = measure.roc_auc_score(truth, shares, multi_class="ovr", labels=names)
    if len(classes) == 2:
        found["f1"] = measure.f1_score(truth == classes[1], guess == classes[1], zero_division=0)
    return {name: float(value) for name, value in found.items()}


def compare(reported, ours):
    """Say which reported metrics the model's own predictions give again."""
    pairs = {}
    for name, value in reported.items():
        key = str(name).lower().removeprefix("test_").replace("-", "_").replace(" ", "_")
        key = ALIASES.get(key, key)
        if key in ours and is_number(value):
            pairs[str(name)] = (float(value), ours[key])
    off = {clip(n): {"reported": a, "recomputed": b} for n, (a, b) in pairs.items()
           if not abs(a - b) <= 1e-9 * max(1.0, abs(b))}  # fmt: skip
    rounded = all(abs(v["reported"] - v["recomputed"]) <= 5e-4 * max(1.0, abs(v["recomputed"]))
                  for v in off.values())  # fmt: skip
    if not pairs:
        say(
            "warnings",
            "test_metrics_unknown",
            "No reported test metric is one that can be checked.",
        )
    elif off and rounded:
        say("warnings", "test_metrics_rounded", "The model gives the reported metrics only up to "
            "rounding; store them unrounded.", metrics=off)  # fmt: skip
    elif off:
        name, pair = next(iter(off.items()))
        say("errors", "test_metrics_differ", f"{name} is reported as {pair['reported']:.6g}, but "
            f"model.pkl gives {pair['recomputed']:.6g} on the test rows.", metrics=off)  # fmt: skip
    else:
        say("passed", "test_metrics_reproduced", f"model.pkl, loaded in a clean process, gives all "
            f"{len(pairs)} checked test metrics again.", metrics=sorted(pairs))  # fmt: skip


def check_model(data, prep, test):
    """The model loads where nothing else is loaded, takes raw rows, and gives its numbers again."""
    if not Path("models/model.pkl").is_file():
        say("errors", "model_missing", "models/model.pkl is missing.")
        return
    target = prep.get("target_column")
    if test is None or target not in test:
        say("errors", "test_unreadable", "Prep's test.parquet can't be read, or has no target.")
        return
    prepared = test.drop(columns=[target])
    answer, kind, failed = predict_clean(raw_test(target), prepared)
    if answer is None:
        say("errors", "model_unusable", f"models/model.pkl can't predict the test rows in a clean "
            f"process: {failed}")  # fmt: skip
        return
    say("passed", "model_loads", "models/model.pkl loads and predicts in a clean process.")
    if kind == "raw":
        say("passed", "model_takes_raw_rows", "The model predicts from raw rows.")
    else:
        say("warnings", "model_takes_prepared_rows", "The model takes only prepared features; save "
            "it together with Prep's pipeline, so that it predicts raw rows.")  # fmt: skip
    if len(answer["prediction"]) != len(test):
        say("errors", "prediction_count", "The model predicts another number of rows than it got.",
            predictions=len(answer["prediction"]), rows=len(test))  # fmt: skip
        return
    regression = prep.get("problem_type", prep.get("task")) == "regression"
    reported = data.get("test_metrics")
    keep = test[target].notna().to_numpy()
    answer = {k: (v if k == "classes" else np.asarray(v)[keep]) for k, v in answer.items()}
    truth = test[target][keep].astype(object).reset_index(drop=True)
    compare(reported if isinstance(reported, dict) else {}, scores_of(truth, answer, regression))
    check_saved(answer, keep)


def same_values(left, right):
    """Return where two columns of labels or numbers agree."""
    if pd.api.types.is_numeric_dtype(left) and pd.api.types.is_numeric_dtype(right):
        return np.isclose(left.astype(float), right.astype(float), rtol=1e-9, atol=1e-12)
    return left.map(str).to_numpy() == right.map(str).to_numpy()


def check_saved(answer, keep):
    """The saved test predictions are the model's."""
    path = Path("data/test_predictions.parquet")
    if not path.is_file():
        say("warnings", "predictions_missing", "data/test_predictions.parquet is missing.")
        return
    saved = pd.read_parquet(path)
    column = next((c for c in ("y_pred", "prediction", "pred", "predicted") if c in saved), None)
    if column is None or len(saved) != keep.sum():
        say("errors", "predictions_inconsistent", f"data/test_predictions.parquet has {len(saved)} "
            f"rows for {int(keep.sum())} test rows, or no column y_pred.")  # fmt: skip
        return
    same = same_values(pd.Series(answer["prediction"]), saved[column])
    if same.all():
        say("passed", "predictions_consistent", "The saved test predictions are the model's.")
    else:
        say("errors", "predictions_inconsistent", f"{int((~same).sum())} of {len(same)} saved test "
            "predictions differ from the model's.", rows=int((~same).sum()))  # fmt: skip


def check_validation(prep):
    """The saved validation predictions match Prep's rows and labels."""
    path = Path("data/val_predictions.parquet")
    val = read_prep("val")
    if not path.is_file() or val is None:
        say("warnings", "predictions_missing", "data/val_predictions.parquet is missing.")
        return
    saved = pd.read_parquet(path)
    if len(saved) != len(val):
        say("warnings" if len(saved) < len(val) else "errors", "val_prediction_count",
            f"data/val_predictions.parquet has {len(saved)} rows for {len(val)} validation rows.",
            predictions=len(saved), rows=len(val))  # fmt: skip
        return
    if "y_true" in saved and not same_values(saved["y_true"], val[prep["target_column"]]).all():
        say("errors", "val_labels_differ", "The labels in data/val_predictions.parquet are not "
            "those of Prep's validation rows.")  # fmt: skip
    else:
        say("passed", "val_predictions", "The validation predictions match Prep's rows.")


def check_interval(data):
    """Better than a constant guess, and in line with validation."""
    head = data.get("headline")
    head = head if isinstance(head, dict) else {}
    name, value, ends = str(head.get("metric")), head.get("value"), head.get("ci95")
    ends = ends if isinstance(ends, list) and len(ends) == 2 else [None, None]
    if not all(is_number(n) for n in (value, *ends)):
        say("warnings", "no_interval", "metadata.json has no headline metric with its interval.")
        return
    low, high = map(float, ends)
    less_is_better = name in ("log_loss", "rmse", "mae", "mse", "brier")
    base = head.get("baseline")
    if is_number(base):
        ahead = high < base if less_is_better else low > base
        say(*(("passed", "beats_baseline", f"{clip(name)} {value:.4g} is beyond the constant guess "
               f"({base:.4g})") if ahead else ("warnings", "baseline_not_beaten",
               f"The interval of {clip(name)} ({low:.4g} to {high:.4g}) includes the constant "
               f"guess ({base:.4g})")), low=low, high=high, baseline=base)  # fmt: skip
    val = data.get("val_metrics")
    val = val.get(name) if isinstance(val, dict) else None
    if is_number(val) and not low <= float(val) <= high:
        say("warnings", "val_test_gap", f"Validation {clip(name)} ({val:.4g}) lies outside the "
            f"test interval ({low:.4g} to {high:.4g}).", val=val, low=low, high=high)  # fmt: skip
    elif is_number(val):
        say("passed", "val_test_gap", "Validation and test score agree within the interval.")
    train = data.get("train_metrics")
    train = train.get(name) if isinstance(train, dict) else None
    known = name == "roc_auc" and is_number(train) and is_number(val)
    if known and float(train) - float(val) > 0.05:
        say("warnings", "train_val_gap", f"ROC-AUC falls from {train:.3f} on training rows to "
            f"{val:.3f} on validation rows.", train=train, val=val)  # fmt: skip


def check_suspicious(data):
    """Scores too good to be true, and one column that does all the work."""
    scores = data.get("test_metrics")
    good = ("auc", "accuracy", "f1", "r2", "precision", "recall", "mcc")
    top = {clip(k): v for k, v in (scores if isinstance(scores, dict) else {}).items()
           if is_number(v) and v >= 0.999 and any(g in str(k).lower() for g in good)}  # fmt: skip
    if top:
        say("warnings", "suspicious_score", f"{next(iter(top))} is {next(iter(top.values())):.4f}: "
            "look for a column that gives the target away.", metrics=top)  # fmt: skip
    gains = data.get("feature_importance")
    gains = {k: max(float(v), 0.0) for k, v in (gains if isinstance(gains, dict) else {}).items()
             if is_number(v) and np.isfinite(v)}  # fmt: skip
    total = sum(gains.values())
    if not gains or total <= 0:
        say("warnings", "no_importance", "feature_importance holds no positive numbers.")
        return
    name, most = max(gains.items(), key=lambda pair: pair[1])
    if most / total > 0.6 and len(gains) > 1:
        say("warnings", "one_feature_dominates", f"{clip(name)} carries {most / total:.0%} of the "
            "importance: it may be a proxy of the target.", feature=clip(name),
            share=round(most / total, 4))  # fmt: skip
    ids = ("split", "row_id", "index", "unnamed: 0")
    odd = [k for k in gains if str(k).lower() in ids and gains[k] > 0.01 * total]
    if odd:
        say("warnings", "id_feature_used", f"The model uses {clip(odd[0])}, which only numbers "
            "rows.", features=odd)  # fmt: skip


def guard(code, check, *arguments):
    """Run one check; whatever an agent left behind becomes an error, not a traceback."""
    try:
        check(*arguments)
    except PROBLEMS as error:
        say("errors", f"{code}_failed", f"The check of {code.replace('_', ' ')} could not be done: "
            f"{type(error).__name__}: {clip(error, 120)}")  # fmt: skip


data = read_json(Path("data/metadata.json"))
prep = read_json(PREP / "metadata.json")
test = read_prep("test")
guard("metadata", check_metadata, data)
guard("models_evaluated", check_models, data)
guard("logging", check_logged)
guard("report", check_report)
guard("model", check_model, data, prep, test)
guard("validation_predictions", check_validation, prep)
guard("intervals", check_interval, data)
guard("suspicion", check_suspicious, data)
print("findings: " + json.dumps(FOUND, default=str))

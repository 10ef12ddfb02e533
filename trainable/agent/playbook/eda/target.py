"""Settle what to predict. A column, and whether it means classification or regression."""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainable import read_raw

# Parameters
TARGET: str | None = None
TASK: str | None = None
# End of parameters

STARTED = time.process_time()
STRONG = {"target", "label", "y", "outcome", "response", "dependent"}
HINTS = {
    *("class", "classes", "survived", "churn", "churned", "species", "price", "quality", "default"),
    *("reaction", "diagnosis", "income", "salary", "sale", "sales", "saleprice", "fraud", "risk"),
    *("result", "score", "grade", "fare", "rating", "approved", "converted", "attrition", "medv"),
    *("exited", "revenue", "demand", "charges", "consumption", "deposit", "purchased", "spam"),
}
CLASS_WORDS = {"class", "label", "category", "type", "species", "digit", "cluster", "group", "kind"}
HUGE = 1e150
NUMERIC = ("numeric", "integer", "boolean", "ordinal", "numeric_text")


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def name_words(name: str) -> set[str]:
    """Split a column name at punctuation and at camel-case borders."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return {word.lower() for word in re.split(r"[^0-9A-Za-z]+", spaced) if word}


def score_shape(entry: dict[str, Any], rows: int) -> tuple[float, list[str]]:
    """What its values say about whether it is the one to predict."""
    score, reasons = 0.0, []
    if entry["distinct"] == 2:
        score += 0.15
        reasons.append("it has two values")
    elif entry["role"] in ("categorical", "ordinal") and entry["distinct"] <= 20:
        score += 0.08
        reasons.append(f"it has {entry['distinct']} classes")
    elif entry["role"] in ("numeric", "integer"):
        score += 0.05
        reasons.append("it is a number")
    if entry["missing_effective"] > 0.2 * rows:
        score -= 0.2
        reasons.append("but it has many gaps")
    if entry["role"] == "categorical" and entry["distinct"] > 50:
        score -= 0.3
        reasons.append("but it has many classes")
    return score, reasons


def score_column(entry: dict[str, Any], position: int, columns: int, rows: int) -> dict[str, Any]:
    """How much a column looks like the one to predict, from 0 to 1, and why."""
    if entry["role"] in ("id", "constant", "text", "datetime", "list"):
        return {"name": entry["name"], "score": 0.0, "reasons": [f"its role is {entry['role']}"]}
    words, reasons, score = name_words(entry["name"]), [], 0.1
    shape_score, shape_reasons = score_shape(entry, rows)
    if words & STRONG:
        score += 0.5
        reasons.append("its name says that it is the target")
    elif words & HINTS:
        score += 0.4 if len(words) == 1 else 0.25
        reasons.append("its name is one that targets often have")
    if position == columns - 1:
        score += 0.25
        reasons.append("it is the last column")
    elif position == 0 and entry["role"] in (*NUMERIC, "categorical"):
        score += 0.1
        reasons.append("it is the first column")
    score += shape_score
    reasons += shape_reasons
    return {"name": entry["name"], "score": round(max(score, 0.0), 2), "reasons": reasons}


def infer_task(entry: dict[str, Any]) -> tuple[str, str, bool]:
    """Classification or regression, the reason in words, and whether both make sense."""
    distinct, role = entry["distinct"], entry["role"]
    whole = role in ("integer", "ordinal", "boolean", "id")
    if role not in NUMERIC and (role != "id" or entry["numeric"] is None):
        return "classification", f"its {distinct} values are texts, not numbers", False
    if distinct <= 2:
        return "classification", "it has two values", False
    if not whole:
        return "regression", f"it is a number with {distinct:,} distinct values", False
    if distinct > 20:
        return "regression", f"it is a whole number with {distinct:,} distinct values", False
    if name_words(entry["name"]) & CLASS_WORDS:
        reason = f"its name says that its {distinct} whole numbers are codes of classes"
        return "classification", reason, True
    if distinct >= 5:
        reason = (
            f"its {distinct} whole numbers look like an ordered rating or a count, "
            "and five or more steps carry distance"
        )
        return "regression", reason, True
    return "classification", f"it has only {distinct} whole numbers", True


def read_target(name: str, entry: dict[str, Any]) -> pd.Series:
    """The target of every row, gaps and texts that mean missing removed."""
    values = read_raw()[name]
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        known = values.dropna()
        return known[np.abs(known.to_numpy(float)) < HUGE]
    texts = values.dropna().astype("str").str.strip()
    texts = texts[~texts.isin(list(entry["null_spellings"]))]
    if entry["role"] == "numeric_text":
        texts = texts.str.replace(r"[\s$€£%]", "", regex=True)
        dropped, point = (".", ",") if entry["decimal_comma"] else (",", ".")
        texts = texts.str.replace(dropped, "", regex=False).str.replace(point, ".", regex=False)
        return pd.to_numeric(texts, errors="coerce").dropna()
    return texts


def class_text(value: Any) -> str:
    """A class as text; whole numbers without a decimal point."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def describe_classes(known: pd.Series) -> dict[str, int]:
    """Rows of each class, the largest first."""
    counts = known.value_counts()
    table = {class_text(value): int(count) for value, count in counts.items()}
    return dict(sorted(table.items(), key=lambda item: (-item[1], item[0])))


def baselines(known: pd.Series, task: str) -> dict[str, float]:
    """What is reached without looking at any feature."""
    if task == "classification":
        share = known.value_counts(normalize=True).to_numpy(float)
        return {
            "majority_accuracy": round(float(share.max()), 6),
            "log_loss": round(float(-(share * np.log(share)).sum()), 6),
        }
    numbers = known.to_numpy(float)
    return {
        "mean": float(f"{numbers.mean():.8g}"),
        "rmse": float(f"{numbers.std():.8g}"),
        "mae_of_median": float(f"{np.abs(numbers - np.median(numbers)).mean():.8g}"),
    }


def transform_advice(known: pd.Series) -> str | None:
    """Whether a skewed numeric target is easier to predict on a log scale."""
    numbers = known.to_numpy(float)
    spread = numbers.std()
    skew = float((((numbers - numbers.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
    if abs(skew) <= 1:
        return None
    if numbers.min() > 0:
        logs = np.log(numbers)
        after = float((((logs - logs.mean()) / logs.std()) ** 3).mean())
        return f"its skew is {skew:.2f}; the logarithm has {after:.2f}, so compare a log target"
    return f"its skew is {skew:.2f} and it is not always positive; compare a Yeo-Johnson transform"


def stop(sentence: str) -> None:
    """End the stage with one sentence that says what to do."""
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def check_task(task: str, entry: dict[str, Any], known: pd.Series) -> None:
    """Refuse a target that no model can learn."""
    name = clip(entry["name"])
    if known.empty:
        stop(f"The target {name!r} has no values; choose another target.")
    if task == "regression" and entry["role"] not in (*NUMERIC, "id", "constant"):
        stop(f"The target {name!r} holds texts; use task='classification' or another target.")
    if task == "regression" and not pd.api.types.is_numeric_dtype(known):
        stop(f"The target {name!r} is not numeric; use task='classification'.")
    many = known.nunique()
    if task == "classification" and many > 100 and many > 0.5 * len(known):
        stop(
            f"The target {name!r} has {many:,} different values in {len(known):,} rows, too many "
            "for classes; choose another target or, for a number, task='regression'."
        )


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
entries = profile["columns"]
size = profile["dataset"]["rows"]
if {"x", "z"} <= {str(entry["name"]).lower() for entry in entries}:
    STRONG.discard("y")
ranked = [score_column(e, i, len(entries), size) for i, e in enumerate(entries)]
ranked.sort(key=lambda item: -item["score"])
name = TARGET if TARGET is not None else ranked[0]["name"]
found = [entry for entry in entries if entry["name"] == name]
if not found:
    stop(f"There is no column {clip(name)!r}; choose one of the dataset's columns as the target.")
if TARGET is None and ranked[0]["score"] == 0:
    stop("No column looks like a target; name one with target=...")
entry = found[0]
task, reason, ambiguous = infer_task(entry)
if TASK:
    wanted = "regression" if TASK == "regression" else "classification"
    reason = "you said so" if wanted != task else f"you said so, and {reason}"
    task, ambiguous = wanted, False
known = read_target(name, entry)
check_task(task, entry, known)
classes = describe_classes(known) if task == "classification" else None
mine = next(item for item in ranked if item["name"] == name)
other = "regression" if task == "classification" else "classification"
if ambiguous:
    reason += f'; if that is wrong, say task="{other}"'
profile["target"] = {
    "name": name,
    "given": TARGET is not None,
    "score": None if TARGET is not None else mine["score"],
    "reasons": ["named by the user"] if TARGET is not None else mine["reasons"],
    "runners_up": [item for item in ranked if item["name"] != name and item["score"] > 0][:3],
    "task": task,
    "problem": task if classes is None else "multiclass" if len(classes) > 2 else "binary",
    "task_reason": reason,
    "ambiguous": ambiguous,
    "classes": classes,
    "missing": size - len(known),
    "baseline": baselines(known, task),
    "transform": None if classes is not None else transform_advice(known),
    "inferred_role": entry["role"],
}
entry["role"] = "target"
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False)
Path("data/profile.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["target"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

how = "named by you" if TARGET is not None else "suggested: " + ", ".join(mine["reasons"])
print(f"Target: {clip(name)} ({how})")
for item in profile["target"]["runners_up"] if TARGET is None else []:
    print(f"  runner-up {clip(item['name'])}, score {item['score']}: {', '.join(item['reasons'])}")
print(f"Task: {task}, because {reason}.")
print(f"Rows without a target: {size - len(known):,} of {size:,}")
for label, count in list((classes or {}).items())[:12]:
    print(f"  class {clip(label)}: {count:,} rows ({count / len(known):.1%})")
if classes is None:
    print(f"  range {known.min():.6g} to {known.max():.6g}, mean {known.mean():.6g}")
print("Without any feature:", ", ".join(f"{k} {v:.4g}" for k, v in baselines(known, task).items()))
print("next:", json.dumps({"target": name, "task": task}))

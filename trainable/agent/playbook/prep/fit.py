"""Fit the pipeline on the train rows. It is applied to all three splits, and described."""

import hashlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from trainable import read_raw

sys.path.insert(0, "data")
import prep_pipeline

NAMES = ("train", "val", "test")
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy")


def hash_table(frame: pd.DataFrame) -> str:
    """Return a digest of the names, types and cells of a table, in order."""
    digest = hashlib.sha256()
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if column.dtype == object:
            column = column.map(str)
        digest.update(json.dumps([str(name), str(frame.dtypes.iloc[position])]).encode())
        digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def read_target(frame: pd.DataFrame) -> pd.Series:
    """Return the target as it came; text that holds numbers becomes numbers for a regression."""
    column = frame[plan["target"]]
    if plan["task"] == "regression" and not pd.api.types.is_numeric_dtype(column):
        return prep_pipeline.to_numbers(column, plan["target_comma"])
    return column.astype(str) if column.dtype == object else column


def count_classes(labels: pd.Series) -> dict[str, int]:
    """Return the rows of each class, in order of the label."""
    counts = labels.map(str).value_counts()
    return {name: int(counts[name]) for name in sorted(counts.index)}


def trace_features() -> dict[str, dict[str, Any]]:
    """Return for each feature the raw columns it comes from and what was done to them."""
    blocks = pipeline.named_steps["blocks"]
    last = pipeline.named_steps["features"]
    origins = []
    for name, block, _ in blocks.transformers_:
        if name != "remainder":
            origins += [(name, *origin) for origin in block.origins_]
    table = {}
    for place, feature in enumerate(last.names_):
        kind, _, sources, how = origins[last.kept_[place]]
        mean, spread = float(last.means_[place]), float(last.spreads_[place])
        row: dict[str, Any] = {"source": sources[0], "sources": sources, "transform": how}
        row |= {"block": kind, "mean": round(mean, 9), "scale": round(spread, 9)}
        table[feature] = row
    return table


def fit_on_train() -> tuple[Any, dict[str, pd.DataFrame]]:
    """Return the pipeline fitted on the train rows, and their features (cross-fitted)."""
    made = prep_pipeline.build_pipeline(plan)
    return made, {"train": made.fit_transform(inputs.iloc[rows["train"]], labels["train"])}


def used_columns() -> set[str]:
    """Return the raw columns that at least one feature comes from."""
    return {name for row in trace_features().values() for name in row["sources"]}


def leave_out(names: list[str]) -> None:
    """Take columns out of the plan that give no feature of their own."""
    decisions = json.loads(Path("data/decisions.json").read_text("utf-8"))
    plan["columns"] = [how for how in plan["columns"] if how["name"] not in names]
    plan["date_pairs"] = [pair for pair in plan["date_pairs"] if not set(pair) & set(names)]
    for number, name in enumerate(names):
        why = "copy: all it would add repeats another column or never varies in train"
        plan["dropped_columns"][name] = why
        row = {"id": f"drop.repeats-{number + 1}", "what": f"column {name!r}", "choice": "dropped"}
        decisions.append(row | {"why": why, "evidence": {"reason": why}, "alternatives": ["keep"]})
    for file, content in (("decisions", decisions), ("plan", plan)):
        text = json.dumps(content, indent=2, sort_keys=True)
        Path(f"data/{file}.json").write_text(text, "utf-8")
    print(f"Left out, since they only repeat others: {', '.join(n[:40] for n in names[:10])}.")


def describe_input(name: str, column: pd.Series, how: dict[str, Any]) -> dict[str, Any]:
    """Return what the pipeline expects of one raw column, learned from the train rows."""
    about = {"dtype": str(column.dtype), "role": how["role"], "read_as": how["kind"]}
    values = prep_pipeline.RawColumns([how]).fit(None).transform(column.to_frame())[name]
    about["nullable"] = bool(values.isna().any())
    known = values.dropna()
    if how["kind"] == "text":
        levels = sorted(known.unique()) if known.nunique() <= 50 else None
        return about | {"categories": levels, "distinct": int(known.nunique())}
    low, high = (known.min(), known.max()) if len(known) else (None, None)
    if how["kind"] == "date":
        return about | {"range": [str(low), str(high)]}
    return about | {"range": [None if v is None else float(v) for v in (low, high)]}


def make_schema() -> dict[str, Any]:
    """Return the schema of the raw columns, the features and the target."""
    train_rows = raw.iloc[rows["train"]]
    inputs = {
        how["name"]: describe_input(how["name"], train_rows[how["name"]], how)
        for how in plan["columns"]
    }
    features = {
        name: {"dtype": str(column.dtype), "nullable": False}
        | {"range": [float(column.min()), float(column.max())]}
        for name, column in outputs["train"].items()
    }
    about: dict[str, Any] = {"name": plan["target"], "dtype": str(labels["train"].dtype)}
    if plan["task"] == "classification":
        about["categories"] = sorted(count_classes(labels["train"]))
    else:
        about["range"] = [float(labels["train"].min()), float(labels["train"].max())]
    return {"schema_version": 1, "inputs": inputs, "features": features, "target": about}


def describe_target() -> dict[str, Any]:
    """Return the entries of the metadata that depend on the task."""
    every = pd.concat([labels[name] for name in NAMES], ignore_index=True)
    if plan["task"] == "regression":
        numbers = every.astype("float64")
        kind = {"n_classes": None, "class_distribution": {}, "class_weights": None}
        spread = {"mean": numbers.mean(), "std": numbers.std(), "skew": numbers.skew()}
        spread |= {"min": numbers.min(), "max": numbers.max()}
        return kind | {"target_distribution": {k: round(float(v), 6) for k, v in spread.items()}}
    in_train = count_classes(labels["train"])
    total = sum(in_train.values())
    weights = {name: round(total / (len(in_train) * n), 6) for name, n in in_train.items()}
    classes = count_classes(every)
    return {"n_classes": len(classes), "class_distribution": classes, "class_weights": weights}


def make_metadata() -> dict[str, Any]:
    """Return everything that the next stage needs to know."""
    traced = trace_features()
    names = list(outputs["train"].columns)
    numeric = [n for n in names if traced[n]["block"] in ("number", "date")]
    parts = {n: {"rows": len(outputs[n])} for n in NAMES}
    if plan["task"] == "classification":
        parts = {n: {**part, "classes": count_classes(labels[n])} for n, part in parts.items()}
    order = splits["row_id"].astype(str) + "," + splits["split"]
    copied = ("task", "problem", "group_column", "time_column", "split_strategy")
    copied += ("missing_target_rows", "duplicates_removed", "dropped_columns")
    treatment = {how["name"]: " + ".join(how["blocks"]) for how in plan["columns"]}
    small = {"method": "repeated_cv", "folds": 5, "repeats": 10}
    return (
        describe_target()
        | {name: plan[name] for name in copied}
        | {
            "schema_version": 1,
            "target_column": plan["target"],
            "problem_type": plan["task"],
            "metric": METRICS[plan["problem"]],
            "features": names,
            "numeric_features": numeric,
            "categorical_features": [n for n in names if n not in numeric],
            "feature_map": traced,
            "splits": parts,
            "split_hash": hashlib.sha256("\n".join(order).encode()).hexdigest(),
            "raw_sha256": hash_table(raw),
            "row_id_column": "row_id",
            "transforms": treatment,
            "random_seed": 42,
            "seed": 42,
            "original_shape": list(raw.shape),
            "outliers_removed": 0,
            "outliers_flagged": plan["outliers"],
            "validation": small if plan["small"] else {"method": "holdout"},
            "library_versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        }
    )


started = time.perf_counter()
plan = json.loads(Path("data/plan.json").read_text("utf-8"))
raw = read_raw()
splits = pd.read_parquet("data/splits.parquet")
rows = {name: np.flatnonzero(splits["split"] == name) for name in NAMES}
labels = {n: read_target(raw.iloc[rows[n]]).reset_index(drop=True) for n in NAMES}
inputs = raw.drop(columns=[plan["target"]])
inputs.attrs = {}

pipeline, outputs = fit_on_train()
repeats = [how["name"] for how in plan["columns"] if how["name"] not in used_columns()]
if repeats and outputs["train"].shape[1]:
    leave_out(repeats)
    pipeline, outputs = fit_on_train()
for name in ("val", "test"):
    outputs[name] = pipeline.transform(inputs.iloc[rows[name]])
if not outputs["train"].shape[1]:
    print("No column varies in the train rows, so nothing can be learned.", file=sys.stderr)
    raise SystemExit(2)
for name in NAMES:
    outputs[name] = outputs[name].reset_index(drop=True)
    frame = outputs[name].assign(**{plan["target"]: labels[name]})
    frame.to_parquet(f"data/{name}.parquet")
joblib.dump(pipeline, "data/prep_pipeline.pkl")

metadata, schema = make_metadata(), make_schema()
for name, content in (("metadata", metadata), ("schema", schema)):
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    Path(f"data/{name}.json").write_text(text, "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["fit"] = round(time.perf_counter() - started, 3)
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")

print(f"{len(plan['columns'])} raw columns became {len(metadata['features'])} features.")
for name in NAMES:
    print(f"  data/{name}.parquet: {len(outputs[name]):,} rows, no gaps")
last = pipeline.named_steps["features"]
if last.constant_ or last.same_as_:
    print(f"Left out: {len(last.constant_)} never vary, {len(last.same_as_)} repeat another.")
print("The fitted pipeline is data/prep_pipeline.pkl; it takes raw rows without the target.")

"""Find repeated or contradicting rows and gaps. Columns that copy each other count too."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainable import read_raw

STARTED = time.process_time()
MIX = np.uint64(0x9E3779B97F4A7C15)


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def hash_cells(values: pd.Series) -> np.ndarray:
    """A 64-bit hash of every cell; equal cells have equal hashes."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if values.dtype == object:
        values = values.map(lambda cell: str(cell), na_action="ignore").astype("str")
    return pd.util.hash_pandas_object(values, index=False).to_numpy(np.uint64)


def add_hash(rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Fold a column's hashes into the hashes of the rows."""
    return ((rows ^ cells) * MIX) ^ (rows >> np.uint64(29))


def count_repeats(rows: np.ndarray) -> int:
    """Rows that repeat an earlier one."""
    return int(rows.size - np.unique(rows).size)


def find_copies(frame: pd.DataFrame, prints: dict[str, int]) -> dict[str, str]:
    """Columns that equal an earlier one cell by cell."""
    first: dict[int, str] = {}
    copies: dict[str, str] = {}
    for name, digest in prints.items():
        original = first.setdefault(digest, name)
        if original != name and frame[name].notna().any():
            copies[name] = original
    return copies


def copies_of_target(sample: pd.DataFrame, target: str) -> set[str]:
    """Columns that map one to one to the target; with them no two labels could contradict."""
    known = sample[sample[target].notna()]
    codes = pd.factorize(known[target])[0]
    others = [name for name in sample.columns if name != target]
    return {name for name in others if np.array_equal(pd.factorize(known[name])[0], codes)}


def relabelled(sample: pd.DataFrame, columns: list[dict[str, Any]]) -> dict[str, str]:
    """Columns that map one to one to another: the same information under other names."""
    usable = [
        column
        for column in columns
        if column["role"] in ("categorical", "ordinal", "boolean", "integer")
        and 2 <= column["distinct"] <= 200
    ]
    order = {"ordinal": 0, "integer": 1, "boolean": 1, "categorical": 2}
    usable.sort(key=lambda column: order[column["role"]])
    groups: dict[tuple[int, int], list[tuple[str, np.ndarray]]] = {}
    same: dict[str, str] = {}
    for column in usable:
        codes = pd.factorize(sample[column["name"]])[0]
        key = (column["distinct"], column["missing_effective"])
        for name, other in groups.get(key, []):
            if np.array_equal(codes, other):
                same[column["name"]] = name
                break
        else:
            groups.setdefault(key, []).append((column["name"], codes))
    return same


def write_missingness(sample: pd.DataFrame, columns: list[dict[str, Any]], rows: int) -> None:
    """Gaps of each column, and the column whose gaps fall together with them."""
    gaps = sample.isna().to_numpy()
    some = np.flatnonzero(gaps.any(axis=0))[:300]
    part = gaps[:, some].astype(np.float32)
    both = part.T @ part
    alone = np.diag(both)
    union = alone[:, None] + alone[None, :] - both
    overlap = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    np.fill_diagonal(overlap, -1.0)
    table = []
    names = list(sample.columns)
    where = {int(column): position for position, column in enumerate(some)}
    for number, column in enumerate(columns):
        partner, share = "", None
        if number in where and len(some) > 1:
            best = int(overlap[where[number]].argmax())
            partner, share = names[some[best]], round(float(overlap[where[number], best]), 4)
        table.append(
            {
                "column": column["name"],
                "missing": column["missing"],
                "null_spellings": sum(column["null_spellings"].values()),
                "missing_effective": column["missing_effective"],
                "missing_effective_share": round(column["missing_effective"] / rows, 6),
                "together_with": partner if share else "",
                "together_share": share or None,
            }
        )
    frame = pd.DataFrame(table).sort_values("missing_effective", ascending=False, kind="stable")
    frame.to_csv("data/missingness.csv", index=False, lineterminator="\n")


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
target = profile["target"]["name"]
raw = read_raw()
feature_rows = np.zeros(len(raw), np.uint64)
weights = (np.arange(1, len(raw) + 1, dtype=np.uint64) * MIX) | np.uint64(1)
analysis = pd.read_parquet("data/analysis.parquet")
skip = {c["name"] for c in profile["columns"] if c["role"] == "id"}
proxies = copies_of_target(analysis, target)
digests: dict[str, int] = {}
left_out, labels = np.zeros(len(raw), np.uint64), np.zeros(len(raw), np.uint64)
for column in raw.columns:
    cells = hash_cells(raw[column])
    digests[column] = int((cells * weights).sum(dtype=np.uint64))
    if column in skip or column in proxies:
        left_out = add_hash(left_out, cells)
    elif column != target:
        feature_rows = add_hash(feature_rows, cells)
    else:
        labels = cells
labelled = add_hash(feature_rows, labels)
has_label = raw[target].notna().to_numpy()
pairs = np.unique(labelled[has_label])
repeats = count_repeats(feature_rows)
contradicting = 0
if repeats:
    known = pd.DataFrame({"x": feature_rows[has_label], "y": labels[has_label]})
    contradicting = int((known.groupby("x")["y"].transform("nunique") > 1).sum())
profile["dataset"].update(
    duplicate_rows=count_repeats(add_hash(labelled, left_out)),
    duplicate_rows_without_ids=count_repeats(labelled),
    duplicate_feature_rows=repeats,
    conflicting_label_rows=contradicting,
)
copies = find_copies(raw, digests)
features = [c for c in profile["columns"] if c["name"] != target and c["name"] not in copies]
twins = relabelled(analysis, features)
for column in profile["columns"]:
    column["copy_of"] = copies.get(column["name"])
    column["same_information_as"] = twins.get(column["name"])
write_missingness(analysis, profile["columns"], len(raw))
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False)
Path("data/profile.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["duplicates"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

found = profile["dataset"]
print(f"Rows that repeat an earlier row in every column: {found['duplicate_rows']:,}")
print(f"Rows that repeat all features of an earlier row: {repeats:,}")
print(f"Rows whose features occur with different targets: {contradicting:,}")
for name, original in copies.items():
    print(f"{clip(name)} is an exact copy of {clip(original)}.")
for name, original in twins.items():
    print(f"{clip(name)} says the same as {clip(original)}, under other names.")

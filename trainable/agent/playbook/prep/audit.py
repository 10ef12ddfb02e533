"""Check the prepared data like a skeptic. Overlaps, gaps, drift, what gives the target away."""

import importlib
import json
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import roc_auc_score

from trainable import read_raw

sys.path.insert(0, "data")

NAMES = ("train", "val", "test")
SAMPLE = 3_000
SHIFT_WARNING, SHIFT_ERROR = 0.60, 0.75
PROXY = 0.98


def adversarial_auc(before: pd.DataFrame, after: pd.DataFrame) -> float:
    """Return how well a forest can tell train rows from test rows; 0.5 is not at all."""
    size = min(len(before), len(after), SAMPLE)
    both = pd.concat([before.sample(size, random_state=42), after.sample(size, random_state=42)])
    side = np.repeat([0, 1], size)
    forest = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=42)
    forest.set_params(bootstrap=True, oob_score=roc_auc_of_votes, n_jobs=1)
    forest.fit(both.to_numpy(), side)
    return round(float(forest.oob_score_), 4)


def roc_auc_of_votes(side: np.ndarray, votes: np.ndarray) -> float:
    """Score the out-of-bag votes of a forest."""
    return float(roc_auc_score(side, votes[:, 1] if votes.ndim == 2 else votes))


def target_difference() -> dict[str, Any]:
    """Return how far the target of validation and test is from that of train."""
    if metadata["task"] == "regression":
        spread = max(float(frames["train"][target].std()), 1e-12)
        means = {name: float(frames[name][target].mean()) for name in NAMES}
        gaps = {n: abs(means[n] - means["train"]) / spread for n in ("val", "test")}
        return {"unit": "standard deviations", "largest": round(max(gaps.values()), 4)}
    shares = {n: frames[n][target].map(str).value_counts(normalize=True) for n in NAMES}
    table = pd.DataFrame(shares).fillna(0.0)
    gap = max(float((table[n] - table["train"]).abs().max()) for n in ("val", "test"))
    return {"unit": "share of rows", "largest": round(gap, 4)}


def strongest_feature() -> dict[str, Any]:
    """Return the feature that alone ranks the validation target best."""
    labels = frames["val"][target]
    ranks = stats.rankdata(frames["val"][names].to_numpy(), axis=0)
    if metadata["task"] == "regression":
        metric = "squared rank correlation"
        with np.errstate(invalid="ignore", divide="ignore"):
            table = np.corrcoef(ranks.T, stats.rankdata(labels))[-1:, :-1] ** 2
    else:
        metric, rows = "auc", [np.full(len(names), 0.5)]
        for label in sorted(labels.map(str).unique()):
            hit = (labels.map(str) == label).to_numpy()
            n = int(hit.sum())
            if 5 <= n <= len(hit) - 5:
                area = (ranks[hit].sum(axis=0) - n * (n + 1) / 2) / (n * (len(hit) - n))
                rows.append(np.maximum(area, 1 - area))
        table = np.array(rows)
    scores = np.nan_to_num(table).max(axis=0)
    best = int(np.argmax(scores))
    return {"feature": names[best], "metric": metric, "score": round(float(scores[best]), 4)}


def shifts(before: pd.DataFrame, after: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the features whose distribution differs most between train and test."""
    size = min(len(before), SAMPLE)
    sample = before.sample(size, random_state=42)
    rows = [
        {
            "feature": n,
            "ks": round(float(stats.ks_2samp(sample[n], after[n], method="asymp")[0]), 4),
        }
        for n in names
    ]
    return sorted(rows, key=lambda row: (-row["ks"], row["feature"]))[:20]


def overlaps() -> dict[str, dict[str, int]]:
    """Count what two splits have in common: row ids, identical raw rows, groups."""
    keys = raw.copy()
    for position, dtype in enumerate(raw.dtypes):
        if pd.api.types.is_object_dtype(dtype):
            keys.isetitem(position, raw.iloc[:, position].map(str))
    hashes = pd.util.hash_pandas_object(keys, index=False).to_numpy()
    group = metadata["group_column"]
    result = {}
    for one, two in combinations(NAMES, 2):
        first, second = rows[one], rows[two]
        row = {"row_ids": len(np.intersect1d(first, second))}
        row["identical_rows"] = int(np.isin(hashes[second], hashes[first]).sum())
        if group:
            values = raw[group].dropna()
            shared = set(values[values.index.isin(first)]) & set(values[values.index.isin(second)])
            row["groups"] = len(shared)
        result[f"{one}_{two}"] = row
    return result


def unseen_levels() -> dict[str, float]:
    """Return the share of test rows whose level never occurs in train, by column."""
    found = {}
    for how in (c for c in columns if {"level", "rich"} & set(c["blocks"])):
        name = how["name"]
        known = set(raw[name].iloc[rows["train"]].astype(str))
        share = float((~raw[name].iloc[rows["test"]].astype(str).isin(known)).mean())
        if share > 0:
            found[name] = round(share, 4)
    return found


def find(code: str, severity: str, message: str) -> None:
    """Note one finding."""
    findings.append({"code": code, "severity": severity, "message": message})


started = time.perf_counter()
importlib.import_module("prep_pipeline")
metadata = json.loads(Path("data/metadata.json").read_text("utf-8"))
columns = json.loads(Path("data/plan.json").read_text("utf-8"))["columns"]
target, names = metadata["target_column"], metadata["features"]
raw = read_raw()
splits = pd.read_parquet("data/splits.parquet")
rows = {name: np.flatnonzero(splits["split"] == name) for name in NAMES}
frames = {name: pd.read_parquet(f"data/{name}.parquet") for name in NAMES}
findings: list[dict[str, str]] = []

# The train file holds cross-fitted encodings; shift is judged on plain ones, as in use.
pipeline = joblib.load("data/prep_pipeline.pkl")
plain = pipeline.transform(raw.iloc[rows["train"]].drop(columns=[target]))
again = pipeline.transform(raw.iloc[rows["test"]].drop(columns=[target]))
reproduced = bool(np.allclose(again, frames["test"][names], rtol=1e-9, atol=1e-12))
auc = adversarial_auc(plain, frames["test"][names])
independent = metadata["split_strategy"] == "stratified"
small = len(frames["test"]) < 100
if auc > SHIFT_WARNING and independent and not small:
    severity = "error" if auc > SHIFT_ERROR else "warning"
    find("shift", severity, f"A forest tells train from test rows with an AUC of {auc:.2f}.")
difference = target_difference()
limit = 0.02 if metadata["task"] == "classification" else 0.2
if difference["largest"] > limit and len(raw) >= 1_000 and independent:
    text = f"{difference['largest']:.3f} ({difference['unit']})"
    find("target_difference", "warning", f"The target differs between splits by {text}.")
strongest = strongest_feature()
if strongest["score"] >= PROXY:
    text = f"{strongest['feature']!r} alone nearly decides the target ({strongest['score']:.3f})."
    find("target_proxy", "warning", f"{text} Check that it is known when you predict.")
nulls = {name: int(frames[name][names].isna().sum().sum()) for name in NAMES}
infinite = {name: int(np.isinf(frames[name][names]).sum().sum()) for name in NAMES}
if sum(nulls.values()) + sum(infinite.values()):
    find("nulls", "error", "The features hold gaps or infinities.")
if not reproduced:
    find("pipeline", "error", "The saved pipeline gives other test features than the file holds.")
audit = {
    "schema_version": 1,
    "adversarial_auc": auc,
    "target_difference": difference,
    "strongest_feature": strongest,
    "overlap": overlaps(),
    "nulls": nulls,
    "infinite": infinite,
    "unseen_levels_in_test": unseen_levels(),
    "shifts": shifts(plain, frames["test"][names]),
    "pipeline_reproduces_test": reproduced,
    "findings": findings,
}
text = json.dumps(audit, indent=2, sort_keys=True, allow_nan=False)
Path("data/audit.json").write_text(text, "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["audit"] = round(time.perf_counter() - started, 3)
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")

print(f"Train against test: a forest tells them apart with AUC {auc:.2f} (0.50 is a coin).")
print(f"Target between splits: at most {difference['largest']:.4f} {difference['unit']} apart.")
print(f"Rows, identical rows in two splits: {audit['overlap']}")
print(f"Gaps or infinities: {sum(nulls.values()) + sum(infinite.values())}.")
print(f"The saved pipeline gives the same test features again: {'yes' if reproduced else 'NO'}.")
for finding in findings:
    print(f"{finding['severity']}: {finding['message']}")
print("No objection." if not findings else f"{len(findings)} objections, see data/audit.json.")

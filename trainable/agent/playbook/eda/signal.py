"""Score every feature alone on the target. Cross-validated; possible leaks are named."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

# Parameters
FOLDS = 5
MAX_CLASSES = 20
# End of parameters

STARTED = time.process_time()
SMOOTHING = 5.0
PROXY, SUSPICIOUS, GAP_SIGNAL = 0.98, 0.90, 0.75
SKIPPED = ("text", "list", "id", "constant", "target")


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def code_column(values: pd.Series) -> np.ndarray:
    """Small whole numbers for a feature: quantile bins or levels; a gap has a code of its own."""
    if pd.api.types.is_datetime64_any_dtype(values):
        values = (values - values.min()).dt.total_seconds()
    if not pd.api.types.is_numeric_dtype(values):
        return pd.factorize(values)[0] + 1
    numbers = values.to_numpy(float)
    known = ~np.isnan(numbers)
    bins = int(np.clip(known.sum() // 30, 4, 32))
    distinct = np.unique(numbers[known])
    if distinct.size > bins:
        distinct = np.unique(np.quantile(numbers[known], np.linspace(0, 1, bins + 1)[:-1]))
    codes = np.searchsorted(distinct, numbers, side="right")
    return np.where(known, np.maximum(codes, 1), 0)


def grouped_auc(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """AUC of groups of rows that share a score."""
    order = np.argsort(score, kind="stable")
    value, up, down = score[order], positive[order], negative[order]
    starts = np.flatnonzero(np.append(True, np.diff(value) > 1e-12))
    up, down = np.add.reduceat(up, starts), np.add.reduceat(down, starts)
    below = np.cumsum(down) - down
    pairs = up.sum() * down.sum()
    return float((up * (below + down / 2)).sum() / pairs) if pairs else 0.5


def auc_error(auc: float, positive: float, negative: float) -> float:
    """Standard error of an AUC (Hanley and McNeil)."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    inner = auc * (1 - auc) + (positive - 1) * (first - auc**2)
    inner += (negative - 1) * (second - auc**2)
    return math.sqrt(max(inner, 0) / max(positive * negative, 1))


def score_classes(codes: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Out-of-fold AUC of the class shares of each code: weighted mean and worst class."""
    levels, classes = int(codes.max()) + 1, int(labels.max()) + 1
    flat = (folds * levels + codes) * classes + labels
    counts = np.bincount(flat, minlength=FOLDS * levels * classes)
    counts = counts.reshape(FOLDS, levels, classes).astype(float)
    prior = counts.sum((0, 1)) / counts.sum()
    others = counts.sum(0) - counts
    share = (others + SMOOTHING * prior) / (others.sum(2, keepdims=True) + SMOOTHING)
    flat_counts, flat_share = counts.reshape(-1, classes), share.reshape(-1, classes)
    used = flat_counts.sum(1) > 0
    flat_counts, flat_share = flat_counts[used], flat_share[used]
    total = flat_counts.sum(1)
    aucs, errors = [], []
    for k in range(1 if classes == 2 else 0, classes):
        positive = flat_counts[:, k]
        auc = grouped_auc(flat_share[:, k], positive, total - positive)
        aucs.append(auc)
        errors.append(auc_error(auc, positive.sum(), (total - positive).sum()))
    weight = prior[1:] if classes == 2 else prior
    right = flat_counts[np.arange(len(flat_share)), flat_share.argmax(1)].sum()
    return {
        "score": float(np.average(aucs, weights=weight)),
        "error": float(np.average(errors, weights=weight)),
        "worst": float(min(aucs)),
        "one_rule": float(right / total.sum()),
    }


def score_numbers(codes: np.ndarray, y: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Out-of-fold R2 of the mean target of each code."""
    levels = int(codes.max()) + 1
    flat, size = folds * levels + codes, FOLDS * levels
    n = np.bincount(flat, minlength=size).reshape(FOLDS, levels).astype(float)
    sums = np.bincount(flat, weights=y, minlength=size).reshape(FOLDS, levels)
    mean = (sums.sum(0) - sums + SMOOTHING * y.mean()) / (n.sum(0) - n + SMOOTHING)
    squared = (y**2).sum() - 2 * (mean * sums).sum() + (n * mean**2).sum()
    r2 = 1 - squared / max(float(((y - y.mean()) ** 2).sum()), 1e-300)
    return {"score": float(r2), "worst": float(r2)}


def refine_with_order(
    result: dict[str, float], values: pd.Series, y: np.ndarray, binary: bool
) -> None:
    """A plain ranking (or line) uses the order that bins lose; keep it where it is better."""
    numbers = values.to_numpy(float)
    known = ~np.isnan(numbers)
    n = int(known.sum())
    if n < 0.8 * len(y) or n < 10 or np.ptp(numbers[known]) == 0 or np.ptp(y[known]) == 0:
        return
    if binary:
        ranks = stats.rankdata(numbers[known])
        up = y[known] == 1
        raw = (ranks[up].sum() - up.sum() * (up.sum() + 1) / 2) / (up.sum() * (~up).sum())
        auc = max(raw, 1 - raw)
        error = auc_error(auc, up.sum(), (~up).sum())
        if auc > 0.5 + 2 * error and auc > result["score"]:
            result.update(score=float(auc), worst=float(auc), error=error)
    elif n == len(y):
        r = float(np.corrcoef(numbers, y)[0, 1])
        line = 1 - (1 - r**2) * (n - 1) / (n - 2)
        if line > result["score"]:
            result.update(score=line, worst=line)


def gap_auc(missing: np.ndarray, y: np.ndarray, classes: int) -> float | None:
    """How well the gaps of a column tell the target apart, as an AUC of at least 0.5."""
    gaps = int(missing.sum())
    if gaps < 5 or gaps > len(y) - 5:
        return None
    if classes:
        counts = np.bincount(missing * classes + y, minlength=2 * classes).reshape(2, classes)
        total = counts.sum(1)
        each = [
            grouped_auc(np.array([0.0, 1.0]), counts[:, k], total - counts[:, k])
            for k in range(classes)
        ]
        return max(max(auc, 1 - auc) for auc in each)
    ranks = stats.rankdata(y)
    auc = (ranks[missing].sum() - gaps * (gaps + 1) / 2) / (gaps * (len(y) - gaps))
    return float(max(auc, 1 - auc))


def maps_one_to_one(values: pd.Series, labels: np.ndarray) -> bool:
    """Whether each value of the feature goes with one value of the target and back."""
    codes = pd.factorize(values)[0]
    known = codes >= 0
    if known.mean() < 0.99 or np.unique(labels[known]).size < 2:
        return False
    pairs = np.unique(np.stack([codes[known], labels[known]]), axis=1).shape[1]
    return pairs == np.unique(codes[known]).size == np.unique(labels[known]).size


def add_greedily(x: np.ndarray, y: np.ndarray, first: int) -> tuple[list[int], float]:
    """Columns, from `first` on, of which each halves what is left of `y`; and what is left."""
    start, total = np.sqrt((x**2).sum(0)), float(y @ y)
    chosen: list[int] = []
    best, left = first, 1.0
    while True:
        direction = x[:, best] / np.sqrt(float(x[:, best] @ x[:, best]))
        chosen.append(best)
        y = y - direction * (direction @ y)
        left = float(y @ y) / total
        x = x - np.outer(direction, direction @ x)
        length = np.sqrt((x**2).sum(0))
        usable = length > 1e-6 * start
        gain = np.where(usable, (y @ x) / np.where(usable, length, 1), 0) ** 2 / total
        best = int(gain.argmax())
        if len(chosen) == 4 or left < 1e-9 or gain[best] < 0.5 * left:
            return chosen, left


def find_joint_copy(numbers: pd.DataFrame, y: np.ndarray) -> tuple[list[str], float]:
    """Up to four numeric features whose weighted sum gives the target, found greedily."""
    part = numbers.iloc[:20_000]
    x = part.fillna(part.median()).to_numpy(float)
    x, y = x - x.mean(0), y[:20_000] - y[:20_000].mean()
    alive = np.flatnonzero((x**2).sum(0) > 0)
    if not alive.size or not y.any():
        return [], 0.0
    x = x[:, alive]
    gain = (y @ x) ** 2 / (x**2).sum(0)
    starts = np.argsort(-gain, kind="stable")[:3]
    chosen, left = min((add_greedily(x, y, int(first)) for first in starts), key=lambda r: r[1])
    return [str(part.columns[alive[i]]) for i in chosen], 1 - left


def judge(row: dict[str, Any], measure: str) -> list[dict[str, Any]]:
    """The leaks that a feature's scores point at."""
    score, name = row["worst"], row["column"]
    words = {"auc": "AUC", "r2": "R2"}[measure]
    found = []
    if row["copy"]:
        reason = "copies the target: each of its values goes with one value of the target"
        found.append({"severity": "error", "metric": measure, "score": 1.0, "reason": reason})
    elif score >= PROXY:
        reason = (
            f"alone it predicts the target almost perfectly (cross-validated {words} {score:.3f})"
        )
        found.append({"severity": "error", "metric": measure, "score": score, "reason": reason})
    elif score >= SUSPICIOUS:
        reason = (
            f"alone it predicts the target very well (cross-validated {words} {score:.3f}); "
            "check that it is known at prediction time"
        )
        found.append({"severity": "warn", "metric": measure, "score": score, "reason": reason})
    if row["missing_auc"] and row["missing_auc"] >= GAP_SIGNAL and not row["copy"]:
        reason = f"whether it is missing tells the target (AUC {row['missing_auc']:.3f})"
        gap = {"metric": "missing_auc", "score": row["missing_auc"], "severity": "warn"}
        found.append({**gap, "reason": reason})
    return [{"column": name, **leak, "score": round(leak["score"], 6)} for leak in found]


def measure_feature(
    values: pd.Series, y: np.ndarray, folds: np.ndarray, classes: int
) -> dict[str, Any]:
    """All scores of one feature."""
    codes = code_column(values)
    result = score_classes(codes, y, folds) if classes else score_numbers(codes, y, folds)
    if pd.api.types.is_numeric_dtype(values) and classes in (0, 2):
        refine_with_order(result, values, y, classes == 2)
    if "error" not in result:
        r2 = min(max(result["score"], 0.0), 1.0)
        result["error"] = math.sqrt(4 * r2 * (1 - r2) ** 2 / max(len(y) - 3, 1))
    top = 1.0
    low, high = result["score"] - 1.96 * result["error"], result["score"] + 1.96 * result["error"]
    same = maps_one_to_one(values, y) if classes else False
    if not classes and pd.api.types.is_numeric_dtype(values):
        same = bool(result["score"] > 1 - 1e-9)
    return {
        **result,
        "ci_low": low,
        "ci_high": min(high, top),
        "missing_auc": gap_auc(values.isna().to_numpy(), y, classes),
        "copy": same,
    }


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
target, task = profile["target"]["name"], profile["target"]["task"]
sample = pd.read_parquet("data/analysis.parquet")
sample = sample[sample[target].notna()]
if task == "classification":
    names = sample[target].value_counts(sort=True).index[:MAX_CLASSES]
    labels = pd.Categorical(sample[target], categories=sorted(names)).codes.astype(int)
    y = np.where(labels < 0, len(names), labels)
    classes, measure = int(y.max()) + 1, "auc"
else:
    y, classes, measure = sample[target].to_numpy(float), 0, "r2"
folds = np.empty(len(y), int)
order = np.lexsort((np.random.default_rng(42).permutation(len(y)), y))
folds[order] = np.arange(len(y)) % FOLDS
learnable = len(y) >= 10 and np.unique(y).size > 1
features = [c for c in profile["columns"] if c["role"] not in SKIPPED] if learnable else []
rows = []
for column in features:
    found = measure_feature(sample[column["name"]], y, folds, classes)
    rows.append({"column": column["name"], "role": column["role"], "metric": measure, **found})
rows.sort(key=lambda row: -row["score"])
leaks = [leak for row in rows for leak in judge(row, measure)]
for column in profile["columns"]:
    if column["role"] == "id":
        reason = "nearly every row has its own value; it can name a row but not explain it"
        share = round(column["distinct"] / max(1, profile["dataset"]["rows"]), 6)
        leak = {"column": column["name"], "metric": "distinct_share", "score": share}
        leaks.append({**leak, "severity": "warn", "reason": reason})
errors = {leak["column"] for leak in leaks if leak["severity"] == "error"}
if measure == "r2" and learnable and len(y) >= 50:
    inputs = [r["column"] for r in rows if r["role"] in ("numeric", "integer", "numeric_text")]
    kept = [name for name in inputs if name not in errors]
    together, share = find_joint_copy(sample[kept], y) if kept else ([], 0.0)
    if len(together) > 1 and share >= PROXY and len(kept) < len(y) / 10:
        listed = ", ".join(clip(name) for name in together)
        for name in together:
            reason = f"a weighted sum of {listed} gives the target (R2 {share:.4f})"
            leak = {"column": name, "metric": "joint_r2", "score": round(share, 6)}
            leaks.append({**leak, "severity": "warn", "reason": reason})
profile["leaks"] = leaks
clean = [row for row in rows if row["column"] not in errors]
profile["signal"] = {
    "metric": measure,
    "rows": len(y),
    "folds": FOLDS,
    "best": clean[0]["column"] if clean else None,
    "best_score": round(clean[0]["score"], 6) if clean else None,
}
if clean and classes:
    profile["target"]["baseline"]["one_rule_accuracy"] = round(clean[0]["one_rule"], 6)
elif clean:
    unexplained = math.sqrt(max(0.0, 1 - clean[0]["score"]))
    rmse = profile["target"]["baseline"]["rmse"] * unexplained
    profile["target"]["baseline"]["one_rule_rmse"] = float(f"{rmse:.6g}")
shown = ("column", "role", "metric", "score", "ci_low", "ci_high", "worst", "missing_auc", "copy")
table = pd.DataFrame(rows, columns=list(shown)).rename(columns={"worst": "worst_class_score"})
table.to_csv("data/target_signal.csv", index=False, lineterminator="\n", float_format="%.6g")
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False)
Path("data/profile.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["signal"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

label = "AUC" if measure == "auc" else "R2"
print(f"{len(rows)} features, each alone, {FOLDS}-fold {label} on {len(y):,} rows:")
for row in rows[:12]:
    print(
        f"  {clip(row['column'])}: {row['score']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    )
if not learnable:
    print("  none: the target has one value only, or fewer than ten rows.")
for leak in leaks[:20]:
    print(f"{leak['severity']}: {clip(leak['column'])}: {leak['reason']}.")
if not leaks:
    print("No leak signals.")

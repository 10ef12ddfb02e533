"""Measure how pairs of columns are related. Columns may be of any type."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats

# Parameters
MAX_COLUMNS = 200
MAX_LEVELS = 20
# End of parameters

STARTED = time.process_time()
NUMERIC = ("numeric", "integer", "boolean", "ordinal", "numeric_text")
Blocks = dict[str, np.ndarray]


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def choose_columns(columns: list[dict[str, Any]], target: str) -> list[str]:
    """Columns that can be related, the target first, at most `MAX_COLUMNS`."""
    usable = [
        column["name"]
        for column in columns
        if column["role"] in (*NUMERIC, "categorical", "datetime")
        and column["distinct"] > 1
        and column["copy_of"] is None
    ]
    return [target, *(name for name in usable if name != target)][:MAX_COLUMNS]


def choose_rows(sample: pd.DataFrame, columns: int) -> pd.DataFrame:
    """At most as many rows as keep the work per pair small."""
    rows = min(len(sample), max(5000, int(4e8 / columns**2)))
    picked = np.sort(np.random.default_rng(42).permutation(len(sample))[:rows])
    return sample.iloc[picked]


def masked_correlation(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's r and n of every pair of columns, over the rows where both are known."""
    known = ~np.isnan(numbers)
    mask = known.astype(float)
    center = np.nanmean(np.where(known.any(axis=0), numbers, 0), axis=0)
    spread = np.nanstd(numbers, axis=0)
    scaled = np.where(known, (numbers - center) / np.where(spread > 0, spread, 1), 0.0)
    n = mask.T @ mask
    left, squares = scaled.T @ mask, (scaled**2).T @ mask
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = scaled.T @ scaled / n - left * left.T / n**2
        variance = squares / n - (left / n) ** 2
        r = covariance / np.sqrt(variance * variance.T)
    ok = (n >= 3) & (variance > 1e-12) & (variance.T > 1e-12)
    return np.where(ok, np.clip(r, -1, 1), np.nan), n


def rank_columns(frame: pd.DataFrame) -> np.ndarray:
    """Ranks within each column, gaps left as gaps."""
    return frame.rank(method="average").to_numpy(float)


def one_hot(frame: pd.DataFrame, numeric: list[bool]) -> tuple[sparse.csc_matrix, np.ndarray]:
    """Indicator columns: ten quantile bins of a number, the frequent levels of a text."""
    rows, columns, sizes, offset = [], [], [], 0
    for name, is_number in zip(frame.columns, numeric, strict=True):
        values = frame[name]
        if is_number and values.nunique() > 10:
            edges = np.unique(np.nanquantile(values, np.linspace(0, 1, 11)[1:-1]))
            codes = np.searchsorted(edges, values.to_numpy(float), side="right")
            codes = np.where(values.isna(), -1, codes)
        else:
            codes = pd.factorize(values)[0]
            order = np.argsort(-np.bincount(codes[codes >= 0]), kind="stable")
            place = np.empty(order.size, int)
            place[order] = np.arange(order.size)
            codes = np.where(codes >= 0, np.minimum(place[codes], MAX_LEVELS - 1), -1)
        known = np.flatnonzero(codes >= 0)
        rows.append(known)
        columns.append(codes[known] + offset)
        sizes.append(max(1, int(codes.max()) + 1))
        offset += sizes[-1]
    row, column = np.concatenate(rows), np.concatenate(columns)
    data = np.ones(row.size, np.float32)
    return sparse.csc_matrix((data, (row, column)), shape=(len(frame), offset)), np.array(sizes)


def block_sums(cells: np.ndarray, starts: np.ndarray, axis: int) -> np.ndarray:
    """Sums over the levels of each column."""
    return np.add.reduceat(cells, starts, axis=axis)


def contingency_measures(hot: sparse.csc_matrix, sizes: np.ndarray) -> Blocks:
    """Chi-squared, Cramer's V and mutual information of every pair, from one product."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    owner = np.repeat(np.arange(sizes.size), sizes)
    parts: dict[str, list[np.ndarray]] = {key: [] for key in ("n", "chi2", "mi", "low", "dof", "v")}
    for first in range(0, sizes.size, 40):
        last = min(first + 40, sizes.size)
        begin, end = starts[first], starts[last - 1] + sizes[last - 1]
        counts = np.asarray((hot[:, begin:end].T @ hot).todense(), dtype=float)
        mine, inner = owner[begin:end] - first, starts[first:last] - begin
        right = block_sums(counts, starts, 1)
        below = block_sums(counts, inner, 0)
        n = block_sums(right, inner, 0)
        total = n[mine][:, owner]
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = right[:, owner] * below[mine] / total
            real = expected > 0
            chi2 = np.where(real, (counts - expected) ** 2 / expected, 0)
            mi = np.where(counts > 0, counts / total * np.log(counts / expected), 0)
        levels_left = block_sums((right > 0).astype(float), inner, 0)
        levels_right = block_sums((below > 0).astype(float), starts, 1)
        cells = np.maximum(1, block_sums(block_sums(real.astype(float), inner, 0), starts, 1))
        low = block_sums(block_sums((real & (expected < 5)).astype(float), inner, 0), starts, 1)
        found = block_sums(block_sums(chi2, inner, 0), starts, 1)
        parts["n"].append(n)
        parts["chi2"].append(found)
        parts["mi"].append(block_sums(block_sums(mi, inner, 0), starts, 1))
        parts["low"].append(low / cells)
        parts["dof"].append((levels_left - 1) * (levels_right - 1))
        parts["v"].append(corrected_v(found, n, levels_left, levels_right))
    return {key: np.vstack(value) for key, value in parts.items()}


def corrected_v(chi2: np.ndarray, n: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cramer's V with Bergsma's correction for bias."""
    n = np.maximum(n, 2)
    phi = np.maximum(0, chi2 / n - (left - 1) * (right - 1) / (n - 1))
    left = left - (left - 1) ** 2 / (n - 1)
    right = right - (right - 1) ** 2 / (n - 1)
    smaller = np.minimum(left, right) - 1
    return np.sqrt(np.divide(phi, smaller, out=np.zeros_like(phi), where=smaller > 1e-9)).clip(0, 1)


def correlation_ratio(
    hot: sparse.csc_matrix, sizes: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Eta of every (column in levels, number) pair, and its p-value by the F test."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    known = ~np.isnan(numbers)
    spread = np.nanstd(numbers, axis=0)
    scaled = (numbers - np.nanmean(numbers, axis=0)) / np.where(spread > 0, spread, 1)
    scaled = np.where(known, scaled, 0.0)
    count = np.asarray(hot.T @ known.astype(float))
    total = np.asarray(hot.T @ scaled)
    square = block_sums(np.asarray(hot.T @ scaled**2), starts, 0)
    groups = block_sums((count > 0).astype(float), starts, 0)
    n = np.maximum(block_sums(count, starts, 0), 1)
    means = block_sums(total, starts, 0) ** 2 / n
    between = block_sums(total**2 / np.maximum(count, 1), starts, 0) - means
    within = np.maximum(square - means - between, 0)
    eta2 = np.divide(between, between + within, out=np.zeros_like(within), where=square > means)
    free = np.maximum(n - groups, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = between / np.maximum(groups - 1, 1) / (within / free)
    return np.sqrt(eta2.clip(0, 1)), stats.f.sf(f, np.maximum(groups - 1, 1), free)


def adjust(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg adjusted p-values; gaps stay gaps."""
    out = np.full(p.size, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(-p[known], kind="stable")]
    scaled = p[order] * known.size / np.arange(known.size, 0, -1)
    out[order] = np.minimum.accumulate(scaled).clip(max=1)
    return out


def correlation_p(r: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Two-sided p-value of a correlation coefficient."""
    free = np.maximum(n - 2, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(r) * np.sqrt(free / np.maximum(1 - r**2, 1e-300))
    return 2 * stats.t.sf(t, free)


def variance_inflation(numbers: np.ndarray) -> np.ndarray | None:
    """How much each number is explained by the other numbers; None with too few rows."""
    rows, columns = numbers.shape
    if columns < 2 or rows < 3 * columns:
        return None
    filled = np.where(np.isnan(numbers), np.nanmedian(numbers, axis=0), numbers)
    spread = filled.std(axis=0)
    alive = spread > 0
    matrix = np.corrcoef(filled[:, alive], rowvar=False)
    inverse = np.linalg.pinv(np.atleast_2d(matrix), rcond=1e-8, hermitian=True)
    shared = (np.atleast_2d(matrix) @ inverse).diagonal() < 1 - 1e-6
    out = np.ones(columns)
    out[alive] = np.where(shared, 1e6, np.maximum(inverse.diagonal(), 1))
    return out


def to_number(values: pd.Series) -> np.ndarray:
    """Numbers as they are; dates as days."""
    if pd.api.types.is_datetime64_any_dtype(values):
        days = (values - values.min()).dt.total_seconds() / 86400
        return days.to_numpy(float, na_value=np.nan)
    return values.to_numpy(float, na_value=np.nan)


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
target = profile["target"]["name"]
names = choose_columns(profile["columns"], target)
everything = pd.read_parquet("data/analysis.parquet", columns=names)
sample = choose_rows(everything, len(names)).dropna(axis="columns", how="all")
names = list(sample.columns)
is_number = [not pd.api.types.is_string_dtype(sample[name]) for name in names]
where = np.flatnonzero(is_number)
frame = pd.DataFrame(
    {n: to_number(sample[n]) if f else sample[n] for n, f in zip(names, is_number, strict=True)}
)
numbers = frame.iloc[:, where].to_numpy(float).reshape(len(frame), -1)
hot, sizes = one_hot(frame, is_number)
tables = contingency_measures(hot, sizes)
size = len(names)
pearson, spearman, ratio, p = (np.full((size, size), np.nan) for _ in range(4))
p_table = np.where(
    tables["dof"] > 0, stats.chi2.sf(tables["chi2"], np.maximum(tables["dof"], 1)), np.nan
)
if where.size:
    r, n_pairs = masked_correlation(numbers)
    rho, _ = masked_correlation(rank_columns(frame.iloc[:, where]))
    pearson[np.ix_(where, where)], spearman[np.ix_(where, where)] = r, rho
    tables["n"][np.ix_(where, where)] = n_pairs
    eta, p_eta = correlation_ratio(hot, sizes, numbers)
    ratio[:, where], p[:, where] = eta, p_eta
    p[np.ix_(where, where)] = correlation_p(rho, n_pairs)
number = np.array(is_number)
left, right = np.triu_indices(size, 1)
swap = number[left] & ~number[right]
a, b = np.where(swap, right, left), np.where(swap, left, right)
kind = number[a].astype(int) + number[b]
p_value = np.where(kind == 0, p_table[a, b], p[a, b])
best_r = np.fmax(np.abs(pearson[a, b]), np.abs(spearman[a, b]))
strength = np.select([kind == 0, kind == 1], [tables["v"][a, b], ratio[a, b]], best_r)
labels = np.array(["category-category", "category-number", "number-number"])
table = pd.DataFrame(
    {
        "left": np.array(names, object)[a],
        "right": np.array(names, object)[b],
        "kind": labels[kind],
        "n": tables["n"][a, b].astype(int),
        "strength": strength,
        "pearson": np.where(kind == 2, pearson[a, b], np.nan),
        "spearman": np.where(kind == 2, spearman[a, b], np.nan),
        "correlation_ratio": np.where(kind == 1, ratio[a, b], np.nan),
        "cramers_v": np.where(kind == 0, tables["v"][a, b], np.nan),
        "mutual_information": tables["mi"][a, b].clip(min=0),
        "p_value": p_value,
        "p_adjusted": adjust(p_value),
        "expected_below_5_share": np.where(kind == 0, tables["low"][a, b], np.nan),
    }
)
table = table.sort_values("strength", ascending=False, kind="stable", na_position="last")
table.to_csv("data/associations.csv", index=False, lineterminator="\n", float_format="%.6g")
inflated = variance_inflation(numbers[:, [n != target for n in np.array(names)[where]]])
inputs = [names[i] for i in where if names[i] != target]
by_name = dict(zip(inputs, [] if inflated is None else inflated, strict=False))
for column in profile["columns"]:
    if column["name"] in by_name and column["numeric"]:
        column["numeric"]["vif"] = round(float(by_name[column["name"]]), 3)
profile["associations"] = {
    "columns": size,
    "columns_left_out": sum(c["distinct"] > 1 for c in profile["columns"]) - size,
    "capped": size >= MAX_COLUMNS,
    "rows": len(frame),
    "rows_available": len(everything),
}
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False)
Path("data/profile.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["associations"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

print(f"{len(table):,} pairs of {size} columns, measured on {len(frame):,} rows.")
if size >= MAX_COLUMNS:
    print(f"More than {MAX_COLUMNS} columns: only the first {MAX_COLUMNS} are paired.")
for row in table[(table["left"] != target) & (table["right"] != target)].head(10).itertuples():
    print(f"  {clip(row.left)} ~ {clip(row.right)}: {row.strength:.2f} ({row.kind})")

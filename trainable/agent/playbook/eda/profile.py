"""Read every row and describe every column. Each gets a role, in words and numbers."""

import json
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainable import read_raw

# Parameters
MAX_CELLS = 10_000_000
MAX_ROWS = 100_000
# End of parameters

STARTED = time.process_time()
NULL_SPELLINGS = {
    *("", "?", "-", "--", ".", "NA", "N/A", "n/a", "na", "#N/A", "NaN", "nan"),
    *("NULL", "null", "Null", "<NA>", "N.A."),
}
SENTINELS = (-1, -9, -99, -999, -9999, -99999, 99, 999, 9999, 99999, 999999)
DATE_FORMATS = (
    *("ISO8601", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y"),
    *("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"),
    *("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y"),
)
ID_WORDS = {"id", "uuid", "guid", "key", "index", "idx", "rownames", "rowname", "row", "unnamed"}
PUNCTUATION = r"(?<=\w)[\s_\-]+(?=\w)|[\s.,;:'\"]+"
HUGE = 1e150
NOISE = r"[\s$€£%]"
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def name_words(name: str) -> set[str]:
    """Split a column name at punctuation and at camel-case borders."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return {word.lower() for word in re.split(r"[^0-9A-Za-z]+", spaced) if word}


def rounded(value: Any) -> float | None:
    """A float with ten significant digits, or None for what JSON cannot hold."""
    return float(f"{float(value):.10g}") if math.isfinite(value) else None


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def as_number(values: pd.Series) -> np.ndarray:
    """The column as floats; gaps become NaN."""
    seconds = pd.api.types.is_timedelta64_dtype(values)
    plain = values.dt.total_seconds() if seconds else values
    return plain.to_numpy(dtype=float, na_value=np.nan)


def text_levels(values: pd.Series) -> tuple[pd.DataFrame, np.ndarray, dict[str, int]]:
    """The distinct stripped texts with their counts, each row's level, and null spellings."""
    if values.dtype == object or not pd.api.types.is_string_dtype(values):
        values = values.map(lambda cell: str(cell), na_action="ignore").astype("str")
    codes, uniques = pd.factorize(values)
    stripped = pd.Series(uniques, dtype="str").str.strip()
    merged, levels = pd.factorize(stripped)
    rows = np.append(merged, -1)[codes]
    counts = np.bincount(rows[rows >= 0], minlength=len(levels))
    table = pd.DataFrame({"level": pd.Series(levels, dtype="str"), "count": counts})
    null = table["level"].isin(NULL_SPELLINGS).to_numpy()
    spellings = dict(zip(table["level"][null], table["count"][null].tolist(), strict=True))
    keep = np.cumsum(~null) - 1
    keep[null] = -1
    rows = np.append(keep, -1)[rows]
    return table[~null].reset_index(drop=True), rows, spellings


def parse_numbers(levels: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """Numbers behind the texts (NaN where there is none), and whether commas are decimal."""
    text = levels["level"].str.replace(NOISE, "", regex=True)
    grouped = text.str.match(r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$")
    plain = text.mask(grouped, text.str.replace(",", "", regex=False))
    point = pd.to_numeric(plain, errors="coerce").to_numpy(float, na_value=np.nan).copy()
    point[text.str.match(r"^[+-]?0\d").to_numpy(bool)] = np.nan
    if np.isfinite(point).mean() > 0.5 or not text.str.contains(",", regex=False).any():
        return point, False
    plain = text.where(text.str.match(r"^[+-]?[\d.]*,?\d+$"), "x").str.replace(".", "", regex=False)
    comma = pd.to_numeric(plain.str.replace(",", ".", regex=False), errors="coerce")
    return comma.to_numpy(float, na_value=np.nan), True


def parse_dates(levels: pd.DataFrame) -> tuple[pd.Series | None, str | None]:
    """Dates behind the texts with the format they share, or None."""
    text = levels["level"]
    head = text.iloc[:: max(1, len(text) // 200)]
    if not head.str.match(r"^(?=.*\d{2})[\w .,:/+\-]{6,35}$").mean() > 0.95:
        return None, None
    if (
        head.str.match(r"^[+-]?[\d.]+$").mean() > 0.5
        and not head.str.match(r"^\d+\.\d+\.\d+").all()
    ):
        return None, None
    for pattern in DATE_FORMATS:
        trial = pd.to_datetime(head, format=pattern, errors="coerce", utc=True)
        if trial.notna().mean() >= 0.95:
            dates = pd.to_datetime(text, format=pattern, errors="coerce", utc=True)
            if (dates.notna() * levels["count"]).sum() >= 0.95 * levels["count"].sum():
                return dates.dt.tz_localize(None), pattern
    return None, None


def text_role(levels: pd.DataFrame, rows: int, name: str) -> str:
    """The role of a text column that holds neither numbers nor dates."""
    total = int(levels["count"].sum())
    sample = levels.iloc[:: max(1, len(levels) // 2000)]
    texts = sample["level"]
    if (texts.str.match(r"^[\[{].*[\]}]$")).mean() > 0.95:
        return "list"
    if len(levels) == 1:
        return "constant" if total >= 0.995 * rows else "categorical"
    words = float((texts.str.count(r"\s+") + 1).mean())
    length, share = float(texts.str.len().mean()), len(levels) / total
    if length > 50 or (words >= 4 and share > 0.3) or (words >= 2 and share > 0.5 and rows >= 20):
        return "text"
    needed = 0.9 if name_words(name) & ID_WORDS else 0.98
    return "id" if total >= 10 and share >= needed else "categorical"


def number_role(values: np.ndarray, name: str, rows: int) -> str:
    """The role of a column of numbers."""
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    if distinct.size <= 1:
        return (
            "constant" if known.size in (0, rows) or known.size >= 0.995 * rows else "categorical"
        )
    if distinct.size == 2 and set(distinct) <= {0.0, 1.0}:
        return "boolean"
    if not np.all(known == np.floor(known)):
        return "numeric"
    words = name_words(name)
    if known.size >= 10 and "year" not in words and distinct.size >= 0.98 * known.size:
        steps = np.diff(known)
        dense = known.size >= 100 and distinct[-1] - distinct[0] + 1 < 2 * known.size
        if bool(np.all(steps == 1)) or bool(words & ID_WORDS) or dense:
            return "id"
    if 3 <= distinct.size <= 10 and distinct[0] == 1 and distinct[-1] == distinct.size:
        return "ordinal"
    return "integer"


def find_sentinels(ordered: np.ndarray, distinct: np.ndarray) -> dict[str, int]:
    """Values such as -1 or 999 that stand apart at an end of the range, with their counts."""
    found: dict[str, int] = {}
    for value in SENTINELS:
        if distinct.size <= 10 or value not in (distinct[0], distinct[-1]):
            continue
        others = ordered[ordered != value]
        spread = float(np.quantile(others, 0.99) - np.quantile(others, 0.01))
        gap = min(abs(float(others[0]) - value), abs(float(others[-1]) - value))
        count = ordered.size - others.size
        alone = value < 0 and others[0] >= 0 and count >= 2
        if alone or (gap > max(spread, 1.0) and count >= 2):
            found[str(value)] = int(count)
    return found


def describe_numbers(values: np.ndarray) -> tuple[dict[str, Any], dict[str, int]]:
    """Moments, quantiles, outliers and a histogram; and the sentinel values."""
    ordered = np.sort(values[np.abs(values) < HUGE])
    count = ordered.size
    if count == 0:
        return {"n": 0, "inf": int((np.abs(values) >= HUGE).sum())}, {}
    distinct, counts = np.unique(ordered, return_counts=True)
    quantiles = np.quantile(ordered, QUANTILES)
    mean, std = ordered.mean(), ordered.std(ddof=1) if count > 1 else 0.0
    scaled, iqr = (ordered - mean) / (std or 1), quantiles[4] - quantiles[2]
    far = (ordered < quantiles[2] - 1.5 * iqr) | (ordered > quantiles[4] + 1.5 * iqr)
    outliers = int(far.sum()) if iqr > 0 else 0
    mad = float(np.median(np.abs(ordered - quantiles[3])))
    robust = int((0.6745 * np.abs(ordered - quantiles[3]) / mad > 3.5).sum()) if mad > 0 else 0
    bins = min(30, max(1, distinct.size))
    heights, edges = np.histogram(ordered, bins=bins)
    stats: dict[str, Any] = {
        "n": int(count),
        "zeros": int((ordered == 0).sum()),
        "negatives": int((ordered < 0).sum()),
        "inf": int((np.abs(values) >= HUGE).sum()),
        "mean": rounded(mean),
        "std": rounded(std),
        "min": rounded(ordered[0]),
        "max": rounded(ordered[-1]),
        **{f"p{q * 100:.0f}": rounded(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "mad": rounded(mad),
        "cv": rounded(std / abs(mean)) if mean else None,
        "skew": rounded((scaled**3).mean()),
        "kurtosis": rounded((scaled**4).mean() - 3),
        "outliers_iqr": outliers,
        "outliers_iqr_share": rounded(outliers / count),
        "robust_z_above_3_5": robust,
        "multiples_of_10_share": rounded(np.mean(ordered % 10 == 0)),
        "min_share": rounded(counts[0] / count),
        "max_share": rounded(counts[-1] / count),
        "top_value": rounded(distinct[counts.argmax()]),
        "top_share": rounded(counts.max() / count),
        "histogram": {"edges": [rounded(e) for e in edges], "counts": heights.tolist()},
    }
    return stats, find_sentinels(ordered, distinct)


def describe_levels(levels: pd.DataFrame) -> dict[str, Any]:
    """Cardinality, most frequent and rare levels, spelling variants."""
    table = levels.sort_values(["count", "level"], ascending=[False, True])
    total = max(1, int(table["count"].sum()))
    share = table["count"].to_numpy() / total
    folded = table["level"].str.casefold().str.replace(PUNCTUATION, "", regex=True)
    folded = folded.where(folded != "", table["level"])
    variants = folded.duplicated(keep=False) if len(table) <= 50_000 else folded == "\0"
    numeric = pd.to_numeric(table["level"], errors="coerce").notna().to_numpy()
    return {
        "cardinality": len(table),
        "top": [
            {"value": clip(level), "count": int(n), "share": rounded(n / total)}
            for level, n in zip(table["level"].iloc[:20], table["count"].iloc[:20], strict=True)
        ],
        "entropy": rounded(-(share * np.log2(np.where(share > 0, share, 1))).sum()),
        "rare_levels": int((share < 0.01).sum()),
        "rare_share": rounded(share[share < 0.01].sum()),
        "singletons": int((table["count"] == 1).sum()),
        "unseen_share": rounded((table["count"] == 1).sum() / total),
        "variant_rows": int(table["count"][variants].sum()),
        "variants": [clip(level) for level in table["level"][variants].iloc[:10]],
        "number_like_share": rounded(share[numeric].sum()),
    }


def describe_dates(dates: pd.Series, texts: pd.Series | None) -> dict[str, Any]:
    """Range, gaps, order, grain and time zones of a date column."""
    known = dates.dropna()
    ordered = known.sort_values()
    gaps = ordered.diff().dropna()
    grain = "second"
    for unit, name in (("D", "day"), ("h", "hour"), ("min", "minute")):
        if bool((known.dt.floor(unit) == known).all()):
            grain = name
            break
    zoned = 0.0 if texts is None else texts.str.contains(r"\d(?:Z|[+-]\d\d:?\d\d)$").mean()
    return {
        "n": len(known),
        "min": str(ordered.iloc[0]),
        "max": str(ordered.iloc[-1]),
        "span_days": rounded((ordered.iloc[-1] - ordered.iloc[0]).total_seconds() / 86400),
        "largest_gap_days": rounded(gaps.max().total_seconds() / 86400) if len(gaps) else None,
        "increasing": bool(known.is_monotonic_increasing),
        "duplicates": int(known.duplicated().sum()),
        "future": int((known > pd.Timestamp.now()).sum()),
        "granularity": grain,
        "timezones_mixed": bool(0 < zoned < 1),
    }


def describe_text(levels: pd.DataFrame) -> dict[str, Any]:
    """Lengths, words and vocabulary of free text (from at most 20,000 distinct texts)."""
    texts = levels["level"].iloc[:: max(1, len(levels) // 20_000)]
    length, words = texts.str.len(), texts.str.count(r"\s+") + 1
    vocabulary = texts.str.slice(0, 1000).str.lower().str.split().explode()
    return {
        "length": {f"p{q}": rounded(length.quantile(q / 100)) for q in (5, 50, 95, 100)},
        "words_mean": rounded(words.mean()),
        "vocabulary": int(vocabulary.nunique()),
        "distinct_share": rounded(len(levels) / max(1, int(levels["count"].sum()))),
    }


def blank_entry(name: str, values: pd.Series) -> dict[str, Any]:
    """The record of a column before anything is known about it."""
    missing = int(values.isna().sum())
    return {
        "name": name,
        "dtype": str(values.dtype),
        "role": "constant",
        "missing": missing,
        "missing_share": rounded(missing / max(1, len(values))),
        "missing_effective": missing,
        "distinct": 0,
        "null_spellings": {},
        "sentinels": {},
        "copy_of": None,
        "datetime_format": None,
        "decimal_comma": False,
        **dict.fromkeys(("numeric", "categorical", "datetime", "text")),
    }


def profile_numbers(entry: dict[str, Any], numbers: np.ndarray, role: str) -> np.ndarray:
    """Fill the record of a column of numbers; infinities count as missing."""
    entry["numeric"], entry["sentinels"] = describe_numbers(numbers)
    entry["role"] = role
    clean = np.where(np.abs(numbers) < HUGE, numbers, np.nan)
    entry["distinct"] = int(np.unique(clean[~np.isnan(clean)]).size)
    entry["missing_effective"] = int(np.isnan(clean).sum())
    return clean


def profile_dates(entry: dict[str, Any], dates: pd.Series, texts: pd.Series | None) -> pd.Series:
    """Fill the record of a date column."""
    entry["distinct"] = int(dates.nunique())
    entry["missing_effective"] = int(dates.isna().sum())
    entry["datetime"] = describe_dates(dates, texts)
    entry["role"] = "datetime" if entry["distinct"] > 1 else "constant"
    return dates


def profile_text(entry: dict[str, Any], values: pd.Series) -> Any:
    """Fill the record of a text column, which may turn out to hold numbers or dates."""
    levels, rows, entry["null_spellings"] = text_levels(values)
    entry["distinct"] = len(levels)
    entry["missing_effective"] = int((rows < 0).sum())
    if levels.empty:
        return np.full(len(values), np.nan)
    weight = levels["count"] / levels["count"].sum()
    numbers, comma = parse_numbers(levels)
    if weight[np.isfinite(numbers)].sum() >= 0.95:
        entry["decimal_comma"] = comma
        entry["unparsed"] = [clip(text) for text in levels["level"][np.isnan(numbers)].iloc[:5]]
        clean = profile_numbers(entry, np.append(numbers, np.nan)[rows], "numeric_text")
        entry["role"] = "constant" if entry["distinct"] <= 1 else "numeric_text"
        return clean
    dates, pattern = parse_dates(levels)
    if dates is not None:
        entry["datetime_format"] = pattern
        moments = pd.concat([dates, pd.Series([pd.NaT])], ignore_index=True).iloc[rows]
        return profile_dates(entry, moments.reset_index(drop=True), levels["level"])
    entry["role"] = text_role(levels, len(values), entry["name"])
    entry["categorical"] = describe_levels(levels)
    if entry["role"] in ("text", "id", "list"):
        entry["text"] = describe_text(levels)
    clipped = levels["level"].str.slice(0, 200)
    return clipped.iloc[rows].reset_index(drop=True).mask(rows < 0)


def profile_column(name: str, values: pd.Series) -> tuple[dict[str, Any], Any]:
    """The record of a column, and its values in the type that the role asks for."""
    entry = blank_entry(name, values)
    if entry["missing"] == len(values):
        return entry, np.full(len(values), np.nan)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_datetime64_any_dtype(values):
        plain = values.dt.tz_convert(None) if values.dt.tz is not None else values
        return entry, profile_dates(entry, plain, None)
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        numbers = as_number(values)
        if pd.api.types.is_integer_dtype(values) and np.nanmin(numbers) > 19000101:
            dates = pd.to_datetime(values.astype("str"), format="%Y%m%d", errors="coerce")
            if dates.notna().all() and np.nanmax(numbers) < 21000101:
                entry["datetime_format"] = "%Y%m%d"
                return entry, profile_dates(entry, dates, None)
        clean = profile_numbers(entry, numbers, number_role(numbers, name, len(values)))
        return entry, clean
    return entry, profile_text(entry, values)


raw = read_raw()
source, raw.attrs = raw.attrs.get("source", {}), {}
if len(raw) < 2 or raw.shape[1] < 2:
    print("The data needs at least two rows and two columns.", file=sys.stderr)
    raise SystemExit(2)
kept = min(len(raw), max(2000, min(MAX_ROWS, MAX_CELLS // raw.shape[1])))
picked = np.sort(np.random.default_rng(42).permutation(len(raw))[:kept])
records, typed = [], {}
for column in raw.columns:
    record, clean_values = profile_column(str(column), raw[column])
    records.append(record)
    typed[str(column)] = pd.Series(clean_values).iloc[picked].set_axis(picked)
profile = {
    "schema_version": 1,
    "dataset": {
        "rows": len(raw),
        "columns": raw.shape[1],
        "memory_bytes": int(raw.memory_usage(deep=True).sum()),
        "source": source,
        "sampled": kept < len(raw),
        "sample_rows": kept,
    },
    "columns": records,
}
Path("data").mkdir(exist_ok=True)
Path("figures").mkdir(exist_ok=True)
pd.DataFrame(typed).to_parquet("data/analysis.parquet")
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False) + "\n"
Path("data/profile.json").write_text(text, "utf-8")
info = {"cpu_seconds": {"profile": round(time.process_time() - STARTED, 3)}}
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")
print(f"{len(raw):,} rows x {len(records)} columns")
for record in records[:50]:
    print(f"  {clip(record['name'])}: {record['role']}, {record['distinct']:,} distinct")

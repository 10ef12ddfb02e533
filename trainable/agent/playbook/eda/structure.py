"""Look for repeated subjects or a time order. Both decide how rows may be split."""

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Parameters
GROUP: str | None = None
TIME: str | None = None
# End of parameters

STARTED = time.process_time()
GROUP_WORDS = {
    *("id", "subject", "patient", "user", "customer", "client", "person", "participant", "animal"),
    *("household", "family", "student", "pupil", "school", "device", "machine", "account"),
    *("member", "driver", "player", "session", "group", "respondent", "employee", "plot"),
}
MEMORY = 0.3
TIME_WORDS = {"year", "month", "day", "days", "week", "quarter", "hour", "date", "time", "period"}


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def name_words(name: str) -> set[str]:
    """Split a column name at punctuation and at camel-case borders."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return {word.lower() for word in re.split(r"[^0-9A-Za-z]+", spaced) if word}


def shared_variance(codes: np.ndarray, values: pd.Series) -> float | None:
    """Share of the target's variance that lies between groups (intraclass correlation)."""
    y = pd.Series(pd.factorize(values, sort=True)[0]).astype(float)
    if pd.api.types.is_numeric_dtype(values):
        y = values.reset_index(drop=True).astype(float)
    known = (codes >= 0) & y.notna().to_numpy()
    y, codes = y[known], codes[known]
    groups = y.groupby(codes)
    n, k = len(y), groups.ngroups
    if k < 2 or n <= k:
        return None
    size = groups.size()
    within = float(((y - groups.transform("mean")) ** 2).sum()) / (n - k)
    between = float((size * (groups.mean() - y.mean()) ** 2).sum()) / (k - 1)
    typical = (n - float((size**2).sum()) / n) / (k - 1)
    total = between + (typical - 1) * within
    return max(0.0, (between - within) / total) if total > 0 else None


def judge_group(column: dict[str, Any], values: pd.Series, target: pd.Series) -> str | None:
    """Why a column seems to name the subjects that rows belong to, or None."""
    codes = pd.factorize(values)[0]
    known = codes[codes >= 0]
    sizes = np.bincount(known) if known.size else np.zeros(0, int)
    if sizes.size < 10 or sizes.size > known.size / 2 or known.size < 0.95 * len(codes):
        return None
    if not name_words(column["name"]) & GROUP_WORDS or np.median(sizes) < 2:
        return None
    if column["role"] in ("boolean", "numeric", "datetime", "text", "constant", "target"):
        return None
    reason = f"{sizes.size:,} values, each on {int(np.median(sizes)):,} rows (median)"
    if sizes.min() == sizes.max():
        reason = f"{sizes.size:,} values, each on exactly {int(sizes[0]):,} rows"
    share = shared_variance(codes, target)
    if share is not None:
        reason += f"; {share:.0%} of the target's variance lies between them"
    return reason + ", so its rows must not be spread over train and test"


def find_groups(
    columns: list[dict[str, Any]], sample: pd.DataFrame, target: str
) -> list[dict[str, Any]]:
    """Group columns, the one named by the user first."""
    found = []
    if GROUP is not None and GROUP in sample.columns:
        found.append({"column": GROUP, "reason": "named by the user"})
    for column in columns:
        if column["name"] in (GROUP, target):
            continue
        reason = judge_group(column, sample[column["name"]], sample[target])
        if reason:
            found.append({"column": column["name"], "reason": reason})
    return found


def drift_over_time(dates: pd.Series, target: pd.Series) -> float | None:
    """Share of the target's variance between ten slices of equal size in time order."""
    order = dates.dropna().sort_values(kind="stable").index
    if len(order) < 50:
        return None
    slices = np.arange(len(order)) * 10 // len(order)
    return shared_variance(slices, target.loc[order])


def memory_in_time(dates: pd.Series, target: pd.Series) -> float | None:
    """How much the mean target of a moment resembles that of the moment before it."""
    y = target
    if not pd.api.types.is_numeric_dtype(target):
        y = (target == target.mode().iloc[0]).where(target.notna())
    means = y.astype(float).groupby(dates).mean().dropna()
    if len(means) < 50 or means.std() == 0:
        return None
    return round(float(np.corrcoef(means.iloc[1:], means.iloc[:-1])[0, 1]), 4)


def find_times(
    columns: list[dict[str, Any]], sample: pd.DataFrame, target: str
) -> list[dict[str, Any]]:
    """Date columns that give the rows an order, the one named by the user first."""
    found = []
    if TIME is not None and TIME in sample.columns:
        found.append({"column": TIME, "reason": "named by the user", "forward": True})
    for column in columns:
        if column["role"] != "datetime" or column["name"] == TIME:
            continue
        about = column["datetime"]
        reason = f"rows are dated from {about['min'][:10]} to {about['max'][:10]}"
        if about["increasing"]:
            reason += " and stand in time order"
        drift = drift_over_time(sample[column["name"]], sample[target])
        if drift is not None:
            reason += f"; {drift:.1%} of the target's variance lies between periods"
        memory = memory_in_time(sample[column["name"]], sample[target])
        forward = memory is not None and memory >= MEMORY
        if memory is not None:
            word = "depend" if forward else "do not depend"
            reason += f"; neighbors in time {word} on each other (lag-1 correlation {memory:.2f})"
        found.append({"column": column["name"], "reason": reason, "forward": forward})
    return found


def find_later_dates(names: list[str], sample: pd.DataFrame) -> list[dict[str, Any]]:
    """Pairs of date columns of which one never lies before the other."""
    found = []
    for first in names[:10]:
        for second in names[:10]:
            both = sample[[first, second]].dropna() if first != second else sample[[first]].iloc[:0]
            ordered = len(both) >= 20 and bool((both[second] >= both[first]).all())
            if ordered and not bool((both[second] == both[first]).all()):
                found.append({"earlier": first, "later": second})
    return found


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
target = profile["target"]["name"]
sample = pd.read_parquet("data/analysis.parquet")
columns = profile["columns"]
groups = find_groups(columns, sample, target)
times = find_times(columns, sample, target)
dates = [column["name"] for column in columns if column["role"] == "datetime"]
later = find_later_dates(dates, sample)
for pair in later:
    reason = (
        f"it never lies before {clip(pair['earlier'])}; if it is only known after the event, "
        "it tells the outcome"
    )
    leak = {"column": pair["later"], "metric": "later_date", "score": 1.0, "severity": "warn"}
    profile["leaks"].append({**leak, "reason": reason})
profile["structure"] = {
    "group": groups,
    "time": times,
    "later_dates": later,
    "time_like": [
        column["name"]
        for column in columns
        if column["role"] in ("integer", "ordinal", "categorical")
        and name_words(column["name"]) & TIME_WORDS
    ],
}
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False)
Path("data/profile.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["structure"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

for item in groups:
    print(f"Group {clip(item['column'])}: {item['reason']}.")
for item in times:
    print(f"Time {clip(item['column'])}: {item['reason']}.")
for pair in later:
    print(f"{clip(pair['later'])} never lies before {clip(pair['earlier'])}.")
for name in profile["structure"]["time_like"][:10]:
    print(f"{clip(name)} counts time, but is no date; it can be a feature.")
if not groups and not times:
    print("No repeated subjects and no dates found: rows can be split at random.")

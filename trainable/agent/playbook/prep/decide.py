"""Decide what happens to every column. What is dropped, filled, encoded; by train rows only."""

import json
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from scipy import stats

from trainable import read_raw

sys.path.insert(0, "data")
import prep_pipeline

FEW_LEVELS = 10  # fewer get a 0/1 column each
ROWS_A_LEVEL = 50  # enough for a mean of the target that is more than noise
WORD_COLUMNS = 50
SKEWED = 2.0
CODES = {-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0}  # say "unknown"


def stop(sentence: str) -> NoReturn:
    """End the stage with one sentence that says what to do."""
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def decide(identity: str, what: str, choice: str, why: str, evidence: Any, *others: str) -> None:
    """Note one decision under an id that no other decision has."""
    part, _, name = identity.partition(".")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "column"
    wish, number = f"{part}.{slug}", 1
    while wish in taken:
        number += 1
        wish = f"{part}.{slug}-{number}"
    taken.add(wish)
    row = {"id": wish, "what": what, "why": why, "evidence": evidence}
    decisions.append(row | {"alternatives": list(others), "choice": choice})


def signal(values: np.ndarray) -> float:
    """Return the share of the target's variance that a straight line or class means explain."""
    spread = values.var()
    if spread <= 0 or len(values) < 10:
        return 0.0
    if plan["task"] == "regression":
        return float(np.corrcoef(values, y_codes)[0, 1] ** 2)
    counts = np.bincount(y_codes.astype(int))
    means = np.bincount(y_codes.astype(int), weights=values) / np.maximum(counts, 1)
    return float(np.average((means - values.mean()) ** 2, weights=counts) / spread)


def tells_something(missing: np.ndarray) -> tuple[bool, dict[str, Any]]:
    """Return whether it says something about the target that a value is missing."""
    count, n = int(missing.sum()), len(missing)
    strength = signal(missing.astype("float64"))
    freedom = 1 if plan["task"] == "regression" else max(int(y_codes.max()), 1)
    p_value = float(stats.chi2.sf(n * strength, freedom))
    evidence = {"missing": count, "share": round(count / n, 4), "p_value": round(p_value, 6)}
    return 5 <= count <= n - 5 and p_value < 0.01, evidence


def dropped_columns() -> dict[str, str]:
    """Return the columns that EDA advises to drop, with the reason."""
    reasons: dict[str, str] = {}
    for entry in profile.get("drop") or []:
        reasons[entry["column"]] = f"{entry.get('code') or 'advised'}: {entry['reason']}"
    for leak in profile.get("leaks") or []:
        if leak.get("severity") == "error":
            reasons.setdefault(leak["column"], f"target_proxy: {leak['reason']}")
    for name, about in known.items():
        if about["role"] in ("id", "constant"):
            why = "identifies a row" if about["role"] == "id" else "has one value only"
            reasons.setdefault(name, f"{about['role']}: {why}")
        original = about.get("copy_of")
        if original and original != target and original not in reasons:
            reasons.setdefault(name, f"copy: holds the same as {original!r}")
    if plan["group_column"]:
        why = "group: names the group, which is new in validation, test and use"
        reasons[plan["group_column"]] = why
    return {name: why for name, why in reasons.items() if name in train and name != target}


def plan_number(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Decide how a column of numbers is read, filled and shaped."""
    how: dict[str, Any] = {"name": name, "kind": "number", "blocks": ["number"]}
    how["comma"] = bool(about.get("decimal_comma"))
    how["nulls"] = sorted(about.get("null_spellings") or {})
    values = prep_pipeline.RawColumns([how]).fit(train).transform(train)[name]
    if about["role"] == "numeric_text":
        read = {"read": int(values.notna().sum()), "cells": int(train[name].notna().sum())}
        choice = "decimal comma" if how["comma"] else "decimal point"
        why = "the text holds numbers; what cannot be read becomes missing"
        decide(f"coerce.{name}", f"read {name!r} as numbers", choice, why, read, "as text")
    how["sentinels"] = find_codes(name, about, values)
    values = values.mask(values.isin(how["sentinels"]))
    filled = values.fillna(values.median())
    if values.isna().any():
        how["flag"] = note_missing(name, values.isna(), "median", filled.median())
    how["log"] = is_better_logged(name, filled.to_numpy())
    return how


def find_codes(name: str, about: dict[str, Any], values: pd.Series) -> list[float]:
    """Return values such as -999 that stand for "unknown" and lie apart from the rest."""
    found = pd.to_numeric(pd.Series(list(about.get("sentinels") or {})), errors="coerce").dropna()
    codes = []
    for code in sorted(set(found) & CODES):
        rest = values[values != code].dropna()
        if rest.empty or not (values == code).any():
            continue
        spread = max(rest.quantile(0.75) - rest.quantile(0.25), 1e-12)
        apart = max(rest.min() - code, code - rest.max()) > 3 * spread
        odd_sign = code < 0 <= rest.min() and len(rest) > 20
        choice = "missing" if apart or odd_sign else "kept as a number"
        why = "it lies apart from all other values" if codes or apart or odd_sign else "it fits in"
        evidence = {"rows": int((values == code).sum()), "others_from": rest.min()}
        decide(
            f"sentinel.{name}", f"{code:g} in {name!r}", choice, why, evidence, "keep", "missing"
        )
        codes += [float(code)] if apart or odd_sign else []
    return codes


def note_missing(name: str, missing: pd.Series, fill: str, value: Any = None) -> bool:
    """Decide whether the gaps of a column get a column of their own."""
    flag, evidence = tells_something(missing.to_numpy())
    why = "missing values go with the target" if flag else "missing values say nothing more"
    choice = f"{fill} + missing flag" if flag else fill
    if value is not None:
        evidence["filled_with"] = round(float(value), 6)
    decide(f"impute.{name}", f"gaps in {name!r}", choice, why, evidence, "mean", "drop the rows")
    return flag


def is_better_logged(name: str, values: np.ndarray) -> bool:
    """Return whether the logarithm of a skewed column follows the target more closely."""
    skew = float(stats.skew(values)) if values.std() > 0 else 0.0
    if not abs(skew) > SKEWED or len(np.unique(values)) <= 2:
        return False
    logged = np.sign(values) * np.log1p(np.abs(values))
    plain_signal, log_signal = signal(values), signal(logged)
    better = log_signal > plain_signal
    evidence = {
        "skew": round(skew, 2),
        "skew_logged": round(float(stats.skew(logged)), 2),
        "signal": round(plain_signal, 4),
        "signal_logged": round(log_signal, 4),
    }
    why = (
        "the logarithm follows the target better"
        if better
        else "the logarithm follows it no better"
    )
    decide(
        f"skew.{name}",
        f"skewed {name!r}",
        "log1p" if better else "none",
        why,
        evidence,
        "yeo-johnson",
    )
    return better


def plan_category(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Decide how a column of names is encoded."""
    how: dict[str, Any] = {"name": name, "kind": "text"}
    how["nulls"] = sorted(about.get("null_spellings") or {})
    values = prep_pipeline.to_text(train[name], tuple(how["nulls"]))
    levels = int(values.nunique())
    evidence = {"levels": levels, "missing": int(values.isna().sum())}
    if levels < FEW_LEVELS:
        ranked = levels > 3 and len(train) >= ROWS_A_LEVEL * levels
        how["blocks"] = ["level", "rich"] if ranked else ["level"]
        choice = "one-hot + cross-fitted target mean" if ranked else "one-hot"
        why = f"{levels} levels fit in columns of their own; an unseen level becomes all zeros"
        decide(
            f"encode.{name}", f"encode {name!r}", choice, why, evidence, "target mean", "ordinal"
        )
        return how
    how["blocks"], how["share"] = ["rich"], True
    why = f"{levels} levels are too many for columns of their own"
    choice = "cross-fitted target mean + frequency"
    decide(f"encode.{name}", f"encode {name!r}", choice, why, evidence, "one-hot", "hashing")
    return how


def plan_date(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Decide how a column of dates is read and taken apart."""
    how = {"name": name, "kind": "date", "blocks": ["date"], "format": about.get("datetime_format")}
    dates = prep_pipeline.to_times(train[name], how["format"])
    missing = dates.isna()
    evidence = {"first": str(dates.min()), "last": str(dates.max()), "missing": int(missing.sum())}
    choice = "year, month, day, weekday, hour, days since the first train row"
    why = "a model needs numbers; parts that never vary in train are left out"
    decide(f"date.{name}", f"take {name!r} apart", choice, why, evidence, "drop", "days only")
    if missing.any():
        how["flag"] = note_missing(name, missing, "median date")
    return how


def plan_text(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Decide how free text or a list is turned into numbers."""
    items = about["role"] == "list"
    why = "its items are few words that repeat" if items else "words repeat, whole texts do not"
    levels = int(prep_pipeline.to_text(train[name]).nunique())
    choice = f"TF-IDF of up to {WORD_COLUMNS} words in all, length, number of words"
    evidence = {"distinct": levels, "rows": len(train)}
    decide(f"text.{name}", f"read the text {name!r}", choice, why, evidence, "drop", "hashing")
    return {"name": name, "kind": "text", "blocks": ["text"], "nulls": []}


def plan_column(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Return how one column is treated, by its role."""
    role = about["role"]
    if role in ("boolean", "ordinal"):
        cells = prep_pipeline.to_text(train[name], tuple(about.get("null_spellings") or {}))
        numbers = prep_pipeline.to_numbers(cells)
        role = "numeric" if numbers.notna().sum() == cells.notna().sum() else "categorical"
    if role in ("numeric", "integer", "numeric_text"):
        return plan_number(name, about)
    if role == "datetime":
        return plan_date(name, about)
    return plan_text(name, about) if role in ("text", "list") else plan_category(name, about)


def date_pairs(columns: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return pairs of date columns where the second is hardly ever before the first."""
    dates = [column for column in columns if column["kind"] == "date"][:6]
    read = {c["name"]: prep_pipeline.to_times(train[c["name"]], c.get("format")) for c in dates}
    pairs = []
    for first in read:
        for last in read:
            gap = (read[last] - read[first]).dropna()
            if first == last or len(gap) < 10 or (last, first) in pairs:
                continue
            if (gap >= pd.Timedelta(0)).mean() >= 0.99 and (gap > pd.Timedelta(0)).any():
                pairs.append((first, last))
                evidence = {"median_minutes": round(gap.median().total_seconds() / 60, 2)}
                what = f"time from {first!r} to {last!r}"
                why = "one date follows the other, so the time between them may matter"
                decide(
                    f"derive.{first}-{last}", what, "minutes between them", why, evidence, "none"
                )
    return pairs


def note_outliers(columns: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Count far values (more than 3 quartile ranges out) and keep them."""
    far: dict[str, int] = {}
    for column in columns:
        if column["kind"] != "number":
            continue
        values = prep_pipeline.RawColumns([column]).fit(train).transform(train)[column["name"]]
        low, high = values.quantile(0.25), values.quantile(0.75)
        edge = 3 * (high - low)
        count = int(((values < low - edge) | (values > high + edge)).sum())
        if count and edge > 0:
            far[column["name"]] = count
    why = "a rare value is not an error; nothing shows that these are"
    decide("rows.outliers", "far values", "flagged, not deleted", why, far, "clip", "delete")
    return far


started = time.perf_counter()
plan = json.loads(Path("data/plan.json").read_text("utf-8"))
decisions = json.loads(Path("data/decisions.json").read_text("utf-8"))
taken = {row["id"] for row in decisions}
profile = json.loads(Path("../eda/data/profile.json").read_text("utf-8"))
known = {column["name"]: column for column in profile["columns"]}
target = plan["target"]
splits = pd.read_parquet("data/splits.parquet")
train = read_raw()[(splits["split"] == "train").to_numpy()].reset_index(drop=True)
if plan["task"] == "regression":
    y_codes = prep_pipeline.to_numbers(train[target], plan["target_comma"]).to_numpy()
else:
    y_codes = pd.factorize(train[target].map(str), sort=True)[0]

dropped = dropped_columns()
columns: list[dict[str, Any]] = []
for name in train.columns:
    if name == target or name in dropped:
        continue
    about = known.get(name) or {"role": "categorical"}
    cells = prep_pipeline.to_text(train[name], tuple(about.get("null_spellings") or {}))
    if cells.nunique(dropna=False) <= 1:
        dropped[name] = "constant: has one value only in the train rows"
        continue
    how = plan_column(name, about)
    columns.append({"role": about["role"], **how})
for name, why in dropped.items():
    decide(f"drop.{name}", f"column {name!r}", "dropped", why, {"reason": why}, "keep")
if not columns:
    stop("No column is left to predict from: every one is an id, constant or a copy of the target.")
plan["columns"] = columns
plan["date_pairs"] = date_pairs(columns)
plan["outliers"] = note_outliers(columns)
texts = [column for column in columns if column["blocks"] == ["text"]]
plan["words_per_text"] = max(WORD_COLUMNS // max(len(texts), 1), 5)
plan["dropped_columns"] = dropped
numbers = [column["name"] for column in columns if "number" in column["blocks"]]
why = "linear models need columns of one size; trees do not mind"
decide(
    "scale.features",
    "scale",
    "mean 0, deviation 1; 0/1 columns stay",
    why,
    {"numbers": len(numbers)},
)

Path("data/plan.json").write_text(json.dumps(plan, indent=2, sort_keys=True), "utf-8")
Path("data/decisions.json").write_text(json.dumps(decisions, indent=2, sort_keys=True), "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["decide"] = round(time.perf_counter() - started, 3)
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")

print(f"{len(columns)} columns stay, {len(dropped)} are dropped.")
for name, why in dropped.items():
    print(f"  {name[:60]!r} is dropped ({why[:100]}).")
for row in [row for row in decisions if row["id"].split(".")[0] not in ("drop", "split", "rows")][
    :40
]:
    print(f"{row['what'][:70]}: {row['choice'][:70]}, because {row['why']}.")

"""Split the rows before anything is learned. Train, validation and test, 70/15/15."""

import json
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from trainable import read_raw

# Parameters
TARGET: str | None = None
TASK: str | None = None
GROUP: str | None = None
TIME: str | None = None
# End of parameters

SEED = 42
SHARES = (0.70, 0.15, 0.15)
NAMES = np.array(["train", "val", "test"])
SMALL = 200  # below this, one validation split is too noisy to choose a model by
RARE = 3  # a class with fewer rows cannot be in all three splits
NULLS = {"", "na", "n/a", "nan", "null", "none", "?"}


def stop(sentence: str) -> NoReturn:
    """End the stage with one sentence that says what to do."""
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def read_labels(column: pd.Series, task: str, spellings: list[str]) -> tuple[pd.Series, bool]:
    """Return the target, what is no label as missing, and whether it has decimal commas."""
    missing = column.isna()
    if not pd.api.types.is_numeric_dtype(column):
        text = column.astype(str).str.strip()
        missing |= text.str.lower().isin(NULLS) | text.isin(spellings)
    if task == "classification":
        return column.mask(missing) if missing.any() else column, False
    numbers, uses_comma = column, False
    if not pd.api.types.is_numeric_dtype(column):
        text = column.astype(str).str.replace(r"[\s$€£%]", "", regex=True)
        numbers, comma = (read_numbers(text, mark) for mark in ".,")
        uses_comma = bool(comma.notna().sum() > numbers.notna().sum())
        numbers = (comma if uses_comma else numbers).mask(missing)
    numbers = numbers.astype("float64")
    return numbers.mask(~np.isfinite(numbers.fillna(0))), uses_comma


def read_numbers(text: pd.Series, mark: str) -> pd.Series:
    """Return text as numbers whose decimal mark is `mark`."""
    other = "," if mark == "." else "."
    plain = text.str.replace(other, "", regex=False).str.replace(mark, ".", regex=False)
    return pd.to_numeric(plain if mark == "," else text, errors="coerce").astype("float64")


def row_keys(frame: pd.DataFrame) -> np.ndarray:
    """Return one hash for each row, over all of its cells."""
    plain = frame.copy()
    for position, dtype in enumerate(frame.dtypes):
        if pd.api.types.is_object_dtype(dtype):
            plain.isetitem(position, frame.iloc[:, position].map(str))
    return pd.util.hash_pandas_object(plain, index=False).to_numpy()


def make_strata(labels: pd.Series, task: str) -> np.ndarray:
    """Return a code for each row: its class, or for numbers the tenth that it falls in."""
    if task == "classification":
        return pd.factorize(labels.astype(str), sort=True)[0]
    bins = int(np.clip(len(labels) // 20, 1, 10))
    ranks = labels.rank(method="average", pct=True).to_numpy()
    return pd.factorize(np.minimum((ranks * bins).astype(int), bins - 1), sort=True)[0]


def share_out(counts: np.ndarray, total: int) -> np.ndarray:
    """Divide `total` among strata in proportion to `counts`, in whole rows."""
    exact = counts * total / max(counts.sum(), 1)
    shares = np.floor(exact).astype(int)
    rest = total - shares.sum()
    shares[np.argsort(shares - exact, kind="stable")[:rest]] += 1
    small = (shares == 0) & (counts >= RARE)
    shares[small] = 1
    while shares.sum() > total and shares.max() > 1:
        shares[np.argmax(shares)] -= 1
    return shares


def split_strata(strata: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Split each stratum 70/15/15 and keep rows of one unit (identical rows) together."""
    rng = np.random.default_rng(SEED)
    counts = np.bincount(strata)
    small = counts < RARE
    rows = int(counts[~small].sum())
    val = share_out(np.where(small, 0, counts), round(SHARES[1] * rows))
    test = share_out(np.where(small, 0, counts), round(SHARES[2] * rows))
    result = np.zeros(len(strata), dtype=int)
    for stratum in np.flatnonzero(~small):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        train = counts[stratum] - val[stratum] - test[stratum]
        room = np.array([train, val[stratum], test[stratum]])
        place_units(members, units, room, result, rng)
    return result


def place_units(
    members: np.ndarray,
    units: np.ndarray,
    room: np.ndarray,
    result: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Give each unit a split at random, in proportion to the room that is left there."""
    order = members[np.argsort(units[members], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(units[order].astype("int64")) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        fits = np.where(room >= size, room, 0)
        place = rng.choice(3, p=fits / fits.sum()) if fits.sum() else int(np.argmax(room))
        result[order[start : start + size]] = place
        room[place] -= size
    alone = np.isin(members, order[starts[sizes == 1]])
    cuts = np.cumsum(np.maximum(room[1:], 0))
    singles = members[alone]
    result[singles[: cuts[0]]] = 1
    result[singles[cuts[0] : cuts[1]]] = 2


def split_groups(groups: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Give whole groups to splits; of several tries take the one nearest to 70/15/15."""
    codes = pd.factorize(groups)[0]
    table = np.zeros((codes.max() + 1, strata.max() + 1))
    np.add.at(table, (codes, strata), 1)
    sizes = table.sum(axis=1)
    wanted = np.outer(SHARES, table.sum(axis=0))
    best, best_score = np.zeros(len(table), dtype=int), np.inf
    for attempt in range(int(np.clip(200_000 // len(table), 1, 40))):
        rng = np.random.default_rng(SEED + attempt)
        order = rng.permutation(len(table))
        order = order[np.argsort(-sizes[order], kind="stable")] if attempt % 2 else order
        places = fill_by_need(order, sizes, table)
        got = np.array([table[places == part].sum(axis=0) for part in range(3)])
        score = np.abs(got - wanted).sum() + 1e9 * (got.sum(axis=1) == 0).any()
        if score < best_score:
            best, best_score = places, score
    return best[codes]


def fill_by_need(order: np.ndarray, sizes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Give each group to the split that is furthest from its share."""
    targets = np.array(SHARES) * sizes.sum()
    used = np.zeros(3)
    places = np.zeros(len(table), dtype=int)
    for group in order:
        place = int(np.argmax((targets - used) / targets))
        places[group] = place
        used[place] += sizes[group]
    return places


def split_forward(stamps: np.ndarray) -> np.ndarray:
    """Put the oldest 70 % into train and the newest 15 % into test; equal times stay together."""
    ranks = pd.Series(stamps).rank(method="min", pct=True).to_numpy()
    return np.searchsorted([SHARES[0], SHARES[0] + SHARES[1]], ranks, side="left")


def read_times(column: pd.Series) -> pd.Series:
    """Return a column as time stamps (numbers stay numbers), missing where it cannot be read."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    stamps = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    return stamps.dt.as_unit("us").astype("int64").astype("float64").where(stamps.notna())


def memory_in_time(stamps: pd.Series, labels: pd.Series, task: str) -> float:
    """Return how much the target resembles its predecessor in time (lag-1 correlation)."""
    values = labels if task == "regression" else labels == labels.mode().iloc[0]
    means = values.astype("float64").groupby(stamps.to_numpy()).mean()
    if len(means) < 50 or means.std() == 0:
        return 0.0
    lagged = np.corrcoef(means.to_numpy()[1:], means.to_numpy()[:-1])[0, 1]
    return float(lagged) if np.isfinite(lagged) else 0.0


def decide(what: str, choice: str, why: str, evidence: dict[str, Any], *others: str) -> None:
    """Note one decision; `what` starts with its id."""
    identity, text = what.split(" ", 1)
    row = {"id": identity, "what": text, "why": why, "evidence": evidence}
    decisions.append(row | {"alternatives": list(others), "choice": choice})


def find_group(frame: pd.DataFrame) -> str | None:
    """Return the column whose values must not be spread over splits."""
    named = GROUP is not None
    found = [] if named else [entry["column"] for entry in structure.get("group", [])]
    for name in [GROUP] if named else found:
        if name not in frame.columns or name == target:
            if named:
                stop(f"The group column {name!r} is not in the data; name one of its columns.")
            continue
        values = frame[name].nunique()
        if values >= (3 if named else 10):
            return name
        if named:
            stop(f"The group column {name!r} has {values} values; three splits need at least 3.")
        why = "with so few groups, whole groups in one split would give no fair validation"
        decide(f"split.group group {name!r}", "ignored", why, {"groups": int(values)})
    return None


def find_time(frame: pd.DataFrame, labels: pd.Series) -> str | None:
    """Return the column by which the split must go forward in time."""
    if TIME is not None:
        if TIME not in frame.columns or target == TIME:
            stop(f"The time column {TIME!r} is not in the data; name one of its columns.")
        return TIME
    for entry in structure.get("time", []):
        name = entry["column"]
        if name not in frame.columns or name == target:
            continue
        stamps = read_times(frame[name])
        known = stamps.notna()
        memory = memory_in_time(stamps[known], labels[known], task)
        forward = memory >= 0.3 and known.mean() > 0.95
        why = "neighbors in time resemble each other" if forward else "rows do not depend on order"
        if forward and task == "classification":
            ends = split_forward(stamps[known].to_numpy())
            table = pd.crosstab(ends, labels[known].map(str).to_numpy())
            if (table == 0).any(axis=None) or len(table) < 3:
                forward, why = False, "a forward split would leave a split without a class"
        what = f"split.time order in time by {name!r}"
        choice = "forward split" if forward else "kept out of the split"
        decide(what, choice, why, {"lag1_correlation": round(memory, 4)}, f"time={name!r}")
        if forward:
            return name
    return None


def assign(
    frame: pd.DataFrame, labels: pd.Series
) -> tuple[np.ndarray, str, str | None, str | None]:
    """Return each row's split (0, 1, 2; -1 has no time), the strategy, group and time column."""
    strata, units = make_strata(labels, task), pd.factorize(row_keys(frame))[0]
    group, moment = find_group(frame), find_time(frame, labels)
    if group is None and moment is None:
        return split_strata(strata, units), "stratified", None, None
    stamps = read_times(frame[moment]).to_numpy() if moment else np.zeros(len(frame))
    if np.isnan(stamps).all():
        stop(f"The time column {moment!r} holds no dates or numbers; name another with time=.")
    places = np.full(len(frame), -1)
    known = ~np.isnan(stamps)
    if group is None:
        places[known] = split_forward(stamps[known])
        return places, "time_forward", None, moment
    codes = pd.factorize(frame[group])[0]
    codes = np.where(codes < 0, codes.max() + 1 + units, codes)
    if moment is None:
        return split_groups(codes, strata), "group", group, None
    ends = pd.Series(stamps[known]).groupby(codes[known]).transform("max").to_numpy()
    places[known] = split_forward(ends)
    return places, "group_by_time", group, moment


def explain(strategy: str, places: np.ndarray, labels: pd.Series) -> None:
    """Write the decisions about the split."""
    reasons = {
        "stratified": "rows are independent; each split shall show the same mix of the target",
        "group": "rows of one group resemble each other, so a group in two splits flatters a model",
        "time_forward": "the model will be used on later rows than it was trained on",
        "group_by_time": "whole groups stay together, and later groups are kept for the test",
    }
    counts = {name: int((places == part).sum()) for part, name in enumerate(NAMES)}
    evidence = {"rows": counts, "seed": SEED, "group": group_column, "time": time_column}
    others = sorted(set(reasons) - {strategy})
    decide("split.strategy split 70/15/15", strategy, reasons[strategy], evidence, *others)
    if len(labels) < SMALL:
        why = f"{counts['val']} validation rows are too few to tell good models apart"
        choice = "choose models by repeated cross-validation (5 folds, 10 repeats) on train + val"
        decide("split.small validation", choice, why, {"rows": len(labels)}, "one split")
    if task == "classification":
        sizes = labels.astype(str).value_counts()
        few = {str(name)[:60]: int(count) for name, count in sizes[sizes < RARE].items()}
        if few:
            why = f"a class with fewer than {RARE} rows cannot be in all three splits"
            decide("split.rare_classes rare classes", "kept in train only", why, few, "dropped")


started = time.perf_counter()
Path("data").mkdir(exist_ok=True)
raw = read_raw()
profile = json.loads(Path("../eda/data/profile.json").read_text("utf-8"))
structure = profile.get("structure") or {}
decisions: list[dict[str, Any]] = []
target = TARGET or profile["target"]["name"]
if target is None or target not in raw.columns:
    stop(f"The target {target!r} is not in the data; name one of its columns with target=.")
task = TASK or profile["target"].get("task") or "classification"
about = next((column for column in profile["columns"] if column["name"] == target), {})
labels, target_comma = read_labels(raw[target], task, list(about.get("null_spellings") or {}))
labeled = labels.notna().to_numpy()
if labeled.sum() < 10:
    stop(f"Only {labeled.sum()} rows have a value of {target!r}; at least 10 are needed.")
y = labels[labeled].reset_index(drop=True)
if y.nunique() < 2:
    stop(f"The target {target!r} has one value only, so there is nothing to predict.")
if task == "classification" and y.astype(str).value_counts().nlargest(2).min() < RARE:
    stop(f"The classes of {target!r} are too rare to learn from; try task='regression'.")
rows = raw[labeled].reset_index(drop=True)

places, strategy, group_column, time_column = assign(rows, y)
if len(np.unique(places[places >= 0])) < 3:
    stop(f"The {strategy} split leaves a split without rows; choose another group or time column.")
explain(strategy, places, y)
split = np.full(len(raw), "dropped", dtype=object)
reason = np.full(len(raw), "the target is missing", dtype=object)
row_ids = np.flatnonzero(labeled)
split[row_ids] = np.where(places >= 0, NAMES[places], "dropped")
reason[row_ids] = np.where(places >= 0, f"{strategy} split", "the time is missing")

missing_target = int((~labeled).sum())
if missing_target:
    why = "a row without a label can neither teach nor test"
    decide("rows.missing_target rows without target", "dropped", why, {"rows": missing_target})
missing_time = int((places < 0).sum())
if missing_time:
    why = "without a time a row has no place in a split that goes forward in time"
    decide("rows.missing_time rows without time", "dropped", why, {"rows": missing_time})

keys = pd.Series(row_keys(raw))
in_train = keys[split == "train"]
repeats = in_train[in_train.duplicated()]
first = in_train.drop_duplicates().reset_index().set_index(0)["index"]
for row_id, key in repeats.items():
    split[row_id], reason[row_id] = "dropped", f"repeats train row {first[key]}"
held_out = keys[(split == "val") | (split == "test")]
why = "a repeated row counts double in training; validation and test stay as they came"
kept = int(held_out.duplicated().sum())
evidence = {"removed_from_train": len(repeats), "kept_in_val_and_test": kept}
choice = "removed from train only" if len(repeats) + kept else "none to remove"
decide("rows.duplicates identical rows", choice, why, evidence, "keep all")

table = pd.DataFrame({"row_id": np.arange(len(raw), dtype="int64"), "split": split})
table["position"] = table.groupby("split").cumcount().astype("int64")
table.loc[table["split"] == "dropped", "position"] = -1
table["reason"] = reason
table.to_parquet("data/splits.parquet")
counts = table["split"].value_counts()
problem = "regression" if task == "regression" else "binary" if y.nunique() == 2 else "multiclass"
plan = {
    "target": target,
    "target_comma": target_comma,
    "task": task,
    "problem": problem,
    "group_column": group_column,
    "time_column": time_column,
    "split_strategy": strategy,
    "missing_target_rows": missing_target,
    "duplicates_removed": len(repeats),
    "small": len(y) < SMALL,
}
Path("data/plan.json").write_text(json.dumps(plan, indent=2, sort_keys=True), "utf-8")
Path("data/decisions.json").write_text(json.dumps(decisions, indent=2, sort_keys=True), "utf-8")
Path("run_info.json").write_text(json.dumps({"split": round(time.perf_counter() - started, 3)}))

print(f"Target {target[:60]!r}, {problem}; {strategy} split, seed {SEED}.")
for name in [*NAMES, "dropped"]:
    print(f"  {name:8} {int(counts.get(name, 0)):8,} rows")
for row in decisions:
    print(f"{row['what']}: {row['choice']}, because {row['why']}.")
print("next:", json.dumps({"target": target, "task": task}))

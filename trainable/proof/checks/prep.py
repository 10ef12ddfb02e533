"""Check what Prep delivered, whoever prepared it; the last line printed holds the findings."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from trainable import read_raw

NAMES = ("train", "val", "test")
SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
FILES = "data/train.parquet data/val.parquet data/test.parquet data/splits.parquet"
FILES += " data/metadata.json data/prep_pipeline.pkl report.md"
NOTES = "data/decisions.json data/schema.json data/audit.json data/prep_pipeline.py"
KEYS = "target_column problem_type features categorical_features numeric_features n_classes"
KEYS += " class_distribution splits transforms random_seed original_shape duplicates_removed"
KEYS += " outliers_removed"
MORE_KEYS = "task metric group_column time_column split_strategy split_hash raw_sha256 seed"
MORE_KEYS += " row_id_column dropped_columns missing_target_rows class_weights feature_map"
MORE_KEYS += " library_versions"
DECISION_KEYS = {"id", "what", "why", "evidence", "alternatives", "choice"}
REPLAY_SECONDS = 300
PROXY = 0.98  # a feature that surely ranks the target this well (95 %) is no honest one
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
UNREADABLE += (RuntimeError, EOFError, MemoryError)

findings: dict[str, list[dict[str, Any]]] = {"passed": [], "warnings": [], "errors": []}


def note(level: str, code: str, message: str, **evidence: Any) -> None:
    """Note one finding with its evidence."""
    findings[level].append({"code": code, "message": message, **evidence})


def judge(code: str, problems: list[str], passed: str, level: str = "errors") -> None:
    """Note a problem each, at most five, or that all is well."""
    for problem in problems[:5]:
        note(level, code, problem)
    if not problems:
        note("passed", code, passed)


def strict_json(path: str) -> Any:
    """Read JSON without the NaN and Infinity that only Python knows."""
    json.dumps(content := json.loads(Path(path).read_text("utf-8")), allow_nan=False)
    return content


def clip(name: Any) -> str:
    return repr(str(name)[:60])


def hash_rows(frame: pd.DataFrame) -> np.ndarray:
    """Return one hash a row over all cells, never over the index."""
    plain = frame.copy()
    for position, dtype in enumerate(frame.dtypes):
        if pd.api.types.is_object_dtype(dtype):
            plain.isetitem(position, frame.iloc[:, position].map(str))
    return pd.util.hash_pandas_object(plain, index=False).to_numpy()


def rows_of(name: str, real: bool = False) -> np.ndarray:
    """Return the raw row of each row of a split file, in order; -1 (synthetic) unless `real`."""
    ids = splits[splits["split"] == name].sort_values("position")["row_id"].to_numpy()
    return ids[(ids >= 0) & (ids < len(raw))] if real else ids


def names_of(name: str) -> list[str]:
    return [column for column in frames[name].columns if column != target]


def judge_shared(code: str, keys: dict[str, Any], what: str, levels: str = "errors errors") -> None:
    """Judge how many rows of one split have a key of another: `levels` is up to 1 %, and above."""
    found = False
    for one, two in combinations(NAMES, 2):
        count, size = int(np.isin(keys[two], keys[one]).sum()), max(len(keys[two]), 1)
        if count:
            found = True
            level = levels.split()[count > 0.01 * size]
            note(level, code, f"{count} of {size} {two} rows {what} {one}.", rows=count)
    if not found:
        note("passed", code, f"No rows {what} another split.")


def check_files() -> None:
    missing = [f"{path} is missing." for path in FILES.split() if not Path(path).is_file()]
    judge("file_missing", missing, "All files are there.")
    missing = [f"{path} is missing." for path in NOTES.split() if not Path(path).is_file()]
    judge("file_advised", missing, "All notes are there.", "warnings")
    missing = [] if list(Path("figures").glob("*.png")) else ["There is no figure in figures/."]
    judge("figures_missing", missing, "There are figures.", "warnings")
    for path in ("data/schema.json", "data/audit.json"):
        load(path, strict_json, None)


def check_metadata() -> None:
    missing = [f"metadata.json has no {key!r}." for key in KEYS.split() if key not in metadata]
    judge("metadata_keys", missing, "metadata.json has all keys.")
    missing = [f"metadata.json has no {k!r}." for k in MORE_KEYS.split() if k not in metadata]
    judge("metadata_advised", missing, "metadata.json has all advised keys.", "warnings")
    problems = []
    if metadata.get("problem_type") not in ("classification", "regression"):
        problems.append("problem_type in metadata.json is neither classification nor regression.")
    if "train" in frames and metadata.get("features") != names_of("train"):
        problems.append("The features in metadata.json are not the columns of train.parquet.")
    for name, frame in frames.items():
        said = metadata.get("splits", {}).get(name, {}).get("rows")
        if said != len(frame):
            problems.append(f"metadata.json says {said} {name} rows; the file has {len(frame)}.")
    judge("metadata_wrong", problems, "metadata.json agrees with the split files.")


def check_decisions() -> None:
    rows = strict_json("data/decisions.json")
    bad = [row for row in rows if not isinstance(row, dict) or not row.keys() >= DECISION_KEYS]
    problems = [f"{len(bad)} of {len(rows)} decisions lack a part."] if bad or not rows else []
    judge("decisions", problems, f"{len(rows)} decisions are written down.", "warnings")


def check_schema() -> None:
    problems = []
    for name, frame in frames.items():
        if target not in frame.columns:
            problems.append(f"The target {clip(target)} is not in {name}.parquet.")
        if not len(frame) or not frame.columns.is_unique or not names_of(name):
            problems.append(f"{name}.parquet has no rows, no features or a name twice.")
        kinds = frame[names_of(name)].dtypes
        words = [
            column for column in kinds.index if not pd.api.types.is_numeric_dtype(kinds[column])
        ]
        problems += [f"The feature {clip(column)} is no number in {name}." for column in words]
        first = frames.get("train", frame)[names_of("train" if "train" in frames else name)].dtypes
        odd = sorted(map(str, set(kinds.index) ^ set(first.index)))[:3]
        if odd:
            problems.append(f"train and {name} differ in features, e.g. {', '.join(odd)[:90]}.")
        elif list(kinds.index) != list(first.index):
            problems.append(f"The features of train and {name} are in different order.")
        else:
            types = [column for column in kinds.index if kinds[column] != first[column]]
            problems += [f"{clip(c)} has another type in {name} than in train." for c in types]
    judge("schema", problems, "The features have the same names, order and types in all splits.")


def check_values() -> None:
    problems = []
    for name, frame in frames.items():
        numbers = frame.select_dtypes("number").astype("float64")
        for what, table in (("gaps", frame.isna()), ("infinite values", np.isinf(numbers))):
            counts = table.sum()
            for column in counts.index[counts > 0]:
                problems.append(f"{name}: {clip(column)} has {int(counts[column])} {what}.")
    judge("nulls", problems, "No gaps and no infinities in any split.")
    train = frames.get("train", pd.DataFrame())
    still = [column for column in train if train[column].nunique() <= 1]
    problems = [f"{clip(column)} never varies in train." for column in still]
    judge("constant_features", problems, "Every feature varies in train.", "warnings")


def check_sizes() -> None:
    sizes = {name: len(frames[name]) for name in NAMES}
    total = sum(sizes.values())
    shares = {name: sizes[name] / max(total, 1) for name in NAMES}
    text = " / ".join(f"{shares[name]:.1%}" for name in NAMES)
    level = "passed"
    if any(abs(shares[name] - SHARES[name]) > 0.05 for name in NAMES):
        level = "warnings"
    if shares["train"] < 0.4 or min(shares["val"], shares["test"]) < 0.02:
        level = "errors"
    note(level, "split_sizes", f"The splits are {text} (wanted 70 / 15 / 15).", rows=sizes)


def check_provenance() -> None:
    problems = []
    known = splits["row_id"]
    if set(splits["split"]) - {*NAMES, "dropped"}:
        problems.append("splits.parquet names a split that is not train, val, test or dropped.")
    real = known[known >= 0]
    twice = int(real.duplicated().sum())
    lost = len(raw) - int(real.drop_duplicates().isin(range(len(raw))).sum())
    strange = int(((known >= len(raw)) | (known < -1)).sum())
    if lost or strange or twice:
        text = f"{lost} raw rows are missing, {twice} occur twice, {strange} do not exist"
        problems.append(f"splits.parquet: {text}.")
    made_up = splits[(known == -1) & splits["split"].isin(["val", "test"])]
    if len(made_up):
        problems.append(f"{len(made_up)} synthetic rows are in val or test, not only in train.")
    for name, frame in frames.items():
        places = np.sort(splits.loc[splits["split"] == name, "position"].to_numpy())
        if not np.array_equal(places, np.arange(len(frame))):
            problems.append(f"{name}: positions in splits.parquet do not number the file's rows.")
    judge("provenance", problems, f"All {len(raw)} raw rows are accounted for, once each.")
    ids = {name: rows_of(name, real=True) for name in NAMES}
    judge_shared("row_overlap", ids, "are raw rows that are also in")


def as_numbers(column: pd.Series, mark: str) -> np.ndarray:
    """Return cells as floats whose decimal mark is `mark`."""
    other = {",": ".", ".": ","}[mark]
    text = column.astype(str).str.replace(rf"[\s$€£%{other}]", "", regex=True)
    return pd.to_numeric(text.str.replace(mark, "."), errors="coerce").to_numpy(dtype="float64")


def check_target_values() -> None:
    problems = []
    for name, frame in frames.items():
        ids = rows_of(name)
        if len(ids) != len(frame) or target not in frame:
            continue
        real = (ids >= 0) & (ids < len(raw))
        given, wanted = frame[target][real], raw[target].iloc[ids[real]]
        same = given.map(str).to_numpy() == wanted.map(str).to_numpy()
        if not same.all() and metadata.get("problem_type") == "regression":
            for mark in ".,":
                same |= np.isclose(as_numbers(given, "."), as_numbers(wanted, mark), rtol=1e-9)
        if not same.all():
            text = f"{int((~same).sum())} of {len(same)} target values differ from the raw rows"
            problems.append(f"{name}: {text}; keep the target as it came and the rows in order.")
    judge("target_values", problems, "The target of every row is that of its raw row.")


def check_duplicates() -> None:
    hashes = hash_rows(raw)
    keys = {name: hashes[rows_of(name, real=True)] for name in NAMES}
    judge_shared("duplicate_rows", keys, "repeat a raw row of", "warnings errors")
    left = int(pd.Series(keys["train"]).duplicated().sum())
    if left > 0.01 * len(keys["train"]):
        note("warnings", "duplicates_in_train", f"{left} train rows repeat another train row.")


def check_feature_twins() -> None:
    order = names_of("train")
    keys = {name: hash_rows(frames[name][order]) for name in NAMES}
    judge_shared("feature_twins", keys, "have the features of a row of", "passed warnings")


def check_group_and_time() -> None:
    group, moment = metadata.get("group_column"), metadata.get("time_column")
    if group:
        values = raw[group].map(str).where(raw[group].notna())
        keys = {name: values.iloc[rows_of(name, real=True)].dropna() for name in NAMES}
        judge_shared("group_overlap", keys, f"share a value of {clip(group)} with rows of")
    if not moment or group:
        return
    column, problems = raw[moment], []
    if not pd.api.types.is_numeric_dtype(column):
        column = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    for one, two in pairwise(NAMES):
        earlier, later = (column.iloc[rows_of(name, real=True)] for name in (one, two))
        if earlier.max() > later.min():
            problems.append(f"{one} has rows later in {clip(moment)} than the first {two} row.")
    judge("time_overlap", problems, f"The splits follow each other in {clip(moment)}.")


def check_target_balance() -> None:
    ids = {name: rows_of(name, real=True) for name in NAMES}
    labels = raw[target].iloc[np.concatenate(list(ids.values()))]
    if labels.isna().any():
        note("errors", "unlabeled_rows", "Some rows in the splits have no target.")
    if metadata.get("group_column") or metadata.get("time_column"):
        return
    if metadata.get("problem_type") == "regression":
        numbers = pd.Series(as_numbers(labels, "."), index=labels.index)
        table = ((numbers - numbers.mean()) / max(float(numbers.std()), 1e-12)).to_frame()
        least, noise, unit = 0.1, 3.0, "standard deviations"
    else:
        table = pd.get_dummies(labels.map(str), dtype="float64")
        least, noise, unit = 0.02, 1.5, "of the rows"
    problems = []
    for name in NAMES:
        gap = float((table.loc[ids[name]].mean() - table.mean()).abs().max())
        if gap > max(least, noise / max(len(ids[name]), 1) ** 0.5):
            problems.append(f"The target of {name} is {gap:.3f} {unit} away from that of all rows.")
    judge("target_balance", problems, "The target is spread alike over the splits.", "warnings")


def check_proxies() -> None:
    labels, features = frames["val"][target], frames["val"][names_of("train")]
    ranks = rankdata(features.to_numpy(dtype="float64"), axis=0)
    measure, notable, areas, fewest = "AUC", 0.90, [], len(labels)
    if metadata.get("problem_type") == "regression":
        measure, notable = "squared rank correlation", PROXY
        with np.errstate(invalid="ignore", divide="ignore"):
            areas = [np.nan_to_num(np.corrcoef(ranks.T, rankdata(labels))[-1, :-1] ** 2)]
    counts = labels.value_counts()
    for label in counts.index[counts.between(5, len(labels) - 5)] if not areas else ():
        hit = (labels == label).to_numpy()
        n = int(hit.sum())
        fewest = min(n, len(hit) - n, fewest)
        area = (ranks[hit].sum(axis=0) - n * (n + 1) / 2) / (n * (len(hit) - n))
        areas.append(np.maximum(area, 1 - area))
    if len(labels) < 30 or not areas:
        note("passed", "target_proxy", "Too few validation rows to look for target proxies.")
        return
    scores = pd.Series(np.mean(areas, axis=0), index=features.columns).nlargest(5)
    text = f"alone ranks the target with {measure}"
    told = {column: f"{clip(column)} {text} {score:.3f}." for column, score in scores.items()}
    # Few rows can make an honest feature look perfect.
    certain = scores - 1.96 * np.sqrt(scores * (1 - scores) / fewest) >= PROXY
    proxies = [told[column] for column in scores.index[certain]]
    judge("target_proxy", proxies, "No feature gives the target away by itself.")
    for column in scores.index[(scores >= notable) & ~certain]:
        note("warnings", "strong_feature", told[column])


def check_pipeline() -> None:
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-B", "-P", __file__, "replay", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=REPLAY_SECONDS)
        for name in ("val", "test") if not done.returncode else ():
            again = np.load(Path(folder) / f"{name}.npy")
            file = frames[name][names_of("train")].to_numpy(dtype="float64")
            if again.shape != file.shape:
                problems.append(f"{name}: the pipeline gives {again.shape}, not {file.shape}.")
            elif wrong := int((~np.isclose(again, file, rtol=1e-6, atol=1e-8).all(axis=1)).sum()):
                problems.append(f"{name}: {wrong} of {len(file)} rows differ from the pipeline's.")
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2][:300]
        text = f"The pipeline does not load and transform raw rows in a clean process: {last}"
        note("errors", "pipeline_unusable", text)
    else:
        judge("pipeline_differs", problems, "The saved pipeline gives the delivered val and test.")


def replay(folder: Path) -> None:
    """Transform the raw rows of validation and test in this clean process."""
    sys.path.insert(0, str(Path("data").resolve()))
    pipeline = joblib.load("data/prep_pipeline.pkl")
    inputs = raw.drop(columns=[target])
    for name in ("val", "test"):
        table = pipeline.transform(inputs.iloc[rows_of(name)])
        if isinstance(table, pd.DataFrame) and set(table.columns) == set(metadata["features"]):
            table = table[metadata["features"]]
        dense = table.toarray() if hasattr(table, "toarray") else np.asarray(table)
        np.save(folder / f"{name}.npy", dense.astype("float64"))


def run(check: Callable[[], None]) -> None:
    """Run a check; what breaks it is a finding."""
    try:
        check()
    except (*UNREADABLE, subprocess.SubprocessError) as problem:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        text = f"The check of {name} broke: {type(problem).__name__}: {str(problem)[:200]}"
        note("errors", "check_broken", text)


def load(path: str, read: Callable[[str], Any], default: Any) -> Any:
    """Read a file; one that is there but unreadable is a finding."""
    if not Path(path).is_file():
        return default
    try:
        return read(path)
    except UNREADABLE as problem:
        note("errors", "file_unreadable", f"{path} cannot be read: {str(problem)[:200]}")
        return default


raw = read_raw()
raw.attrs = {}
splits = load("data/splits.parquet", pd.read_parquet, pd.DataFrame())
metadata = load("data/metadata.json", strict_json, {})
metadata = metadata if isinstance(metadata, dict) else {}
target = metadata.get("target_column")
if sys.argv[1:2] == ["replay"]:
    replay(Path(sys.argv[2]))
    raise SystemExit
tables = {name: load(f"data/{name}.parquet", pd.read_parquet, None) for name in NAMES}
frames = {name: table for name, table in tables.items() if table is not None}
has_target = isinstance(target, str) and target in raw.columns
if metadata and not has_target:
    note("errors", "target_unknown", f"The target {clip(target)} is not a column of the raw data.")
kinds = {name: splits[name].dtype.kind for name in splits.columns}
traced = kinds.get("row_id") == kinds.get("position") == "i" and "split" in kinds
if len(splits.columns) and not traced:
    note("errors", "provenance", "splits.parquet needs row_id, split, position and reason.")
whole = len(frames) == len(NAMES) and has_target and all(target in f for f in frames.values())
checks = [check_files, check_values]
checks += [check_metadata] * bool(metadata)
checks += [check_decisions] * Path("data/decisions.json").is_file()
checks += [check_schema] * (len(frames) > 0 and has_target)
checks += [check_sizes] * (len(frames) == len(NAMES))
checks += [check_provenance, check_duplicates] * traced
checks += [check_target_values, check_group_and_time, check_target_balance] * (
    traced and has_target
)
checks += [check_feature_twins, check_proxies] * whole
checks += [check_pipeline] * (whole and traced)
for check in checks:
    run(check)
print("findings:", json.dumps(findings, allow_nan=False, default=str))

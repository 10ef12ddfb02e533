"""Check what EDA delivered, whoever explored; the last line printed holds the findings."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainable import read_raw

TOPICS = {
    "dataset": r"dataset|overview|shape",
    "target and task": r"target",
    "alerts": r"alert|quality|issue|finding",
    "columns": r"column|feature|distribution",
    "missing values": r"missing|completeness",
    "associations": r"associat|correlat|relation",
    "leakage": r"leak",
    "plan for Prep": r"plan|recommend|next step|prep",
}
ROLES = "numeric integer boolean categorical ordinal datetime text id constant numeric_text list"
PROBLEMS = {"binary": "classification", "multiclass": "classification", "regression": "regression"}
PNG = b"\x89PNG\r\n\x1a\n"
MAX_FIGURE_BYTES = 150_000
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
UNREADABLE = (*UNREADABLE, RecursionError, RuntimeError, MemoryError)

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


def clip(name: Any) -> str:
    """Return a name from the data, short enough for a sentence."""
    return repr(str(name)[:60])


def strict_json(path: str) -> Any:
    """Read JSON without the NaN and Infinity that only Python knows."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(Path(path).read_text("utf-8"), parse_constant=refuse)


def check_report() -> None:
    """The report is there, covers what a reader needs, and its figures exist."""
    path = Path("report.md")
    text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    if len(text.strip()) < 200:
        note("errors", "report_present", "report.md is missing or nearly empty; write the report.")
        return
    note("passed", "report_present", "The report is there.")
    headings = "\n".join(re.findall(r"^#{1,4} .*$", text, re.MULTILINE)).lower()
    missing = [topic for topic, words in TOPICS.items() if not re.search(words, headings)]
    problems = [f"The report has no section on: {', '.join(missing)}."] if missing else []
    level = "errors" if len(missing) > len(TOPICS) / 2 else "warnings"
    judge("report_sections", problems, "The report has all sections.", level)
    links = re.findall(r"!\[[^\n]*?\]\(<?([^)>\s]+)", text)
    local = [link for link in links if "://" not in link and not link.startswith("data:")]
    broken = sorted({link for link in local if not Path(link).is_file()})
    lost = [f"The report shows {clip(link)}, which is not there." for link in broken]
    judge("report_figures", lost, "Every figure of the report is there.", "warnings")
    leftovers = sorted(set(re.findall(r"\b(?:TODO|TBD|lorem ipsum)\b", text, re.IGNORECASE)))
    problems = [f"The report still holds {clip(word)}." for word in leftovers]
    judge("report_finished", problems, "The report holds no leftovers.", "warnings")


def png_problem(path: Path) -> str | None:
    """Return what is wrong with a PNG file, or None."""
    data = path.read_bytes()
    if data[:8] != PNG or data[12:16] != b"IHDR" or len(data) < 33:
        return f"figures/{path.name[:60]} is not a PNG image."
    width, height = struct.unpack(">II", data[16:24])
    if b"IEND" not in data[-16:]:
        return f"figures/{path.name[:60]} ends too early."
    if width < 50 or height < 50:
        return f"figures/{path.name[:60]} is only {width} x {height} pixels."
    return None


def check_figures() -> None:
    """Figures are there, whole, and small enough to be shown."""
    paths = sorted(path for path in Path("figures").glob("*.png") if path.is_file())
    if not paths:
        note("errors", "figures_present", "There is no figures/*.png; draw the findings.")
        return
    level = "passed" if len(paths) >= 3 else "warnings"
    note(level, "figures_present", f"Figures drawn: {len(paths)}.", figures=len(paths))
    problems = [problem for path in paths if (problem := png_problem(path))]
    judge("figures_readable", problems, "All figures are whole PNG images.")
    large = [path for path in paths if path.stat().st_size > MAX_FIGURE_BYTES]
    problems = [f"figures/{p.name[:60]} has {p.stat().st_size:,} bytes." for p in large]
    judge("figures_size", problems, "No figure is above 150 kB.", "warnings")


def load_profile() -> dict[str, Any] | None:
    """Return data/profile.json, or note why it cannot be used."""
    path = "data/profile.json"
    if not Path(path).is_file():
        note("errors", "profile_present", f"{path} is missing; Prep starts from it.")
        return None
    try:
        profile = strict_json(path)
        usable = isinstance(profile["dataset"], dict) and isinstance(profile["target"], dict)
        names = [str(column["name"]) for column in profile["columns"]]
    except UNREADABLE as error:
        message = f"{path} cannot be used: {type(error).__name__}: {str(error)[:200]}"
        note("errors", "profile_present", message)
        return None
    if not usable or not names:
        note("errors", "profile_present", f"{path} lacks the dataset, the target or the columns.")
        return None
    note("passed", "profile_present", "data/profile.json is strict JSON with all parts.")
    version = profile.get("schema_version")
    problems = [] if version == 1 else [f"{path} has schema_version {version!r}, not 1."]
    judge("profile_version", problems, "The profile has schema version 1.")
    return profile


def check_counts(profile: dict[str, Any], raw: pd.DataFrame) -> None:
    """Rows, columns and missing values agree with the raw data."""
    stated = profile["dataset"]
    problems = []
    for key, real in (("rows", len(raw)), ("columns", raw.shape[1])):
        if stated.get(key) != real:
            problems.append(f"The profile says {stated.get(key)!r} {key}; the data has {real:,}.")
    judge("profile_shape", problems, f"{len(raw):,} rows and {raw.shape[1]:,} columns agree.")
    names = [str(column["name"]) for column in profile["columns"]]
    expected = [str(name) for name in raw.columns]
    lost = [f"The profile lacks the column {clip(n)}." for n in expected if n not in set(names)]
    extra = [f"The profile has {clip(n)}, the data not." for n in names if n not in set(expected)]
    doubled = ["The profile has a column twice."] if len(set(names)) < len(names) else []
    judge("profile_columns", lost + extra + doubled, "The profile has every column once.")
    real_gaps = dict(zip(expected, raw.isna().sum().tolist(), strict=True))
    wrong = [
        f"{clip(c['name'])} has {real_gaps[str(c['name'])]:,} missing values, "
        f"not {c.get('missing')!r}."
        for c in profile["columns"]
        if str(c["name"]) in real_gaps and c.get("missing") != real_gaps[str(c["name"])]
    ]
    judge("profile_missing", wrong, "The missing values of every column agree.")
    known = {*ROLES.split(), "target"}
    odd = [c for c in profile["columns"] if c.get("role") not in known]
    problems = [f"{clip(c['name'])} has the unknown role {clip(c.get('role'))}." for c in odd]
    judge("profile_roles", problems, "Every column has a known role.")


def check_target(profile: dict[str, Any], raw: pd.DataFrame) -> None:
    """The target exists, the task fits, and the classes add up."""
    target = profile["target"]
    name, task, problem = target.get("name"), target.get("task"), target.get("problem")
    if name not in raw.columns:
        note("errors", "target_exists", f"The target {clip(name)} is no column of the data.")
        return
    note("passed", "target_exists", f"The target {clip(name)} is a column of the data.")
    problems = []
    if PROBLEMS.get(str(problem)) != task:
        problems.append(f"The problem {problem!r} does not fit the task {task!r}.")
    holds_text = not pd.api.types.is_numeric_dtype(raw[name])
    numbers = pd.to_numeric(raw[name].dropna().astype("str").str[:1], errors="coerce")
    if task == "regression" and holds_text and numbers.notna().mean() < 0.5:
        problems.append(f"The task is regression, but the target {clip(name)} holds texts.")
    judge("target_task", problems, "The task fits the target.")
    classes = target.get("classes")
    if task == "classification" and isinstance(classes, dict):
        counted, known = sum(classes.values()), int(raw[name].notna().sum())
        allowed = known - (target.get("missing") or 0) if holds_text else known
        off = [f"The classes hold {counted:,} rows; {known:,} rows have a target."]
        fits = min(allowed, known) <= counted <= known
        judge("target_classes", [] if fits else off, "The classes add up to the rows.")
    dropped = {str(item["column"]) for item in profile.get("drop") or []}
    problems = ["The profile advises to drop the target."] if name in dropped else []
    strange = sorted(dropped - {str(column) for column in raw.columns})
    problems += [f"The profile advises to drop {clip(n)}, which is no column." for n in strange]
    judge("drop_advice", problems, "The columns to drop exist, and the target is not one.")


def first_seen_codes(values: pd.Series) -> np.ndarray:
    """Number the values in the order in which they appear; equal patterns are equal columns."""
    plain = values.astype("str") if values.dtype == object else values
    return pd.factorize(plain)[0]


def check_copies(profile: dict[str, Any], raw: pd.DataFrame) -> None:
    """No column that copies the target goes unnamed."""
    name = profile["target"].get("name")
    if name not in raw.columns:
        return
    known = raw[raw[name].notna()]
    codes = first_seen_codes(known[name])
    repeats = len(codes) > 0 and codes.max() + 1 < 0.98 * len(codes)
    others = [column for column in raw.columns if column != name] if repeats else []
    copies = [c for c in others if np.array_equal(first_seen_codes(known[c]), codes)]
    named = {str(leak["column"]) for leak in profile.get("leaks") or []}
    named |= {str(item["column"]) for item in profile.get("drop") or []}
    silent = [c for c in copies if str(c) not in named] if codes.size and codes.max() > 0 else []
    problems = [f"{clip(c)} copies the target, but is not named as a leak." for c in silent]
    judge("leaks_named", problems, "No column that copies the target goes unnamed.")


def check_tables() -> None:
    """The summary files beside the profile can be read."""
    tables = sorted(Path("data").glob("*.csv"))
    problems = []
    for path in tables[:50]:
        try:
            pd.read_csv(path, nrows=5)
        except UNREADABLE as error:
            problems.append(f"{path.as_posix()[:60]} cannot be read: {str(error)[:100]}")
    if not tables:
        problems.append("There is no summary table in data/*.csv.")
    judge("tables_readable", problems, "The summary tables can be read.", "warnings")
    if Path("data/alerts.json").is_file():
        alerts = strict_json("data/alerts.json")
        wrong = not isinstance(alerts, list)
        problems = ["data/alerts.json is not a list."] if wrong else []
        judge("alerts_readable", problems, "The alerts are strict JSON.")
    else:
        note("warnings", "alerts_readable", "data/alerts.json is missing.")


def guard(code: str, check: Callable[..., None], *values: Any) -> None:
    """Run a check; what it cannot make sense of is a finding."""
    try:
        check(*values)
    except UNREADABLE as error:
        message = f"This could not be checked: {type(error).__name__}: {str(error)[:200]}"
        note("errors", code, message)


raw_rows = read_raw()
guard("report_present", check_report)
guard("figures_present", check_figures)
guard("tables_readable", check_tables)
found = load_profile()
if found is not None:
    guard("profile_shape", check_counts, found, raw_rows)
    guard("target_exists", check_target, found, raw_rows)
    guard("leaks_named", check_copies, found, raw_rows)
print("findings:", json.dumps(findings, allow_nan=False, default=str))

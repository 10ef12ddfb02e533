"""Write the report. What the data is, what is wrong with it, and what Prep should do."""

import json
import math
import platform
import re
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

# Parameters
INSTRUCTIONS: str | None = None
MAX_LISTED = 60
# End of parameters

STARTED = time.process_time()
WORDS = {"error": "Errors", "warn": "Warnings", "info": "Notes"}
ROLES = {"numeric_text": "number stored as text", "integer": "whole number", "numeric": "number"}
LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib", "pyarrow")


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def code(value: Any) -> str:
    """A name or value as inert code that breaks neither a table nor a line."""
    return "`" + (clip(value).replace("`", "'").replace("|", "¦") or " ") + "`"


def plain(text: str) -> str:
    """A sentence whose marks are shown and not interpreted."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(str(text).split()))


def number(value: Any) -> str:
    """Four significant digits, thousands apart; a dash for nothing."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{float(value):,.4g}"


def chance(value: Any) -> str:
    """A p-value, the tiny ones cut off."""
    return "< 0.0001" if value is not None and value < 1e-4 else number(value)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    if not rows:
        return []
    right = [all(re.match(r"^[\d<-]", row[i]) for row in rows) for i in range(len(head))]
    rule = ["---:" if flag else "---" for flag in right]
    lines = [head, rule, *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def figure(name: str) -> list[str]:
    """A figure with its text for readers who cannot see it, if it was drawn."""
    if name not in figures:
        return []
    return [f"![{plain(figures[name]['alt'])}](figures/{name}.png)", ""]


def role_counts() -> str:
    """How many columns have which role, in words."""
    counts = Counter(column["role"] for column in columns if column["role"] != "target")
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} {ROLES.get(role, role)}" for role, n in ordered)


def joined(names: list[str], limit: int = 5) -> str:
    """Names in one phrase; the rest is counted."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(code(name) for name in names[:limit]) + more


def verdict() -> list[str]:
    """Five lines that stand for the whole report."""
    gaps = [c["name"] for c in columns if c["missing_effective"] > 0.05 * rows]
    quality = f"{data['duplicate_rows']:,} repeated rows"
    quality += f"; more than 5% missing in {joined(gaps)}" if gaps else "; no column misses over 5%"
    best = [r for r in signal if r["column"] not in errors][:3]
    strong = ", ".join(f"{code(r['column'])} {r['score']:.2f}" for r in best) or "none"
    found = sorted({k["column"] for k in leaks if k["metric"] != "distinct_share"} - errors)
    risk = f"{joined(sorted(errors))} must not be used" if errors else ""
    if found:
        risk += ("; " if risk else "") + f"check {joined(found)}"
    why, names = plain(target["task_reason"]), [item["column"] for item in profile["drop"]]
    drops = f"leave out {joined(names)}; " if names else ""
    return [
        f"1. **Data**: {rows:,} rows and {len(columns)} columns ({role_counts()}).",
        f"2. **Target**: {code(target['name'])}, {target['problem']}; {why}.",
        f"3. **Quality**: {quality}.",
        f"4. **Signal and leaks**: best single features by {measure}: {strong}. "
        f"Leaks: {risk or 'no sign of any'}.",
        f"5. **Next**: {drops}{plain(plan[0]['what'])}.",
        "",
    ]


def dataset_section() -> list[str]:
    """Size, source and repetition."""
    source = data["source"]
    facts = [
        ["Rows, columns", f"{rows:,}, {len(columns):,}"],
        ["Memory", f"{data['memory_bytes'] / 1e6:,.1f} MB"],
        ["Repeated rows, in all", f"{data['duplicate_rows']:,}"],
        ["Repeated rows, but for the target", f"{data['duplicate_feature_rows']:,}"],
        ["Rows with equal features, different targets", f"{data['conflicting_label_rows']:,}"],
    ]
    lines = table(["Fact", "Value"], facts)
    if files := source.get("files"):
        head = ["File", "Rows", "Format", "Encoding", "Delimiter", "Header"]
        lines += table(head, [how_read(file) for file in files[:MAX_LISTED]])
    notes = [f"- {plain(note)[:300]}" for note in (source.get("notes") or [])[:MAX_LISTED]]
    return [*lines, "While reading:", "", *notes, ""] if notes else lines


def how_read(file: dict[str, Any]) -> list[str]:
    header = {True: "first line", False: "none: columns are numbered"}.get(file.get("header"), "-")
    details = [code(file.get(key) or "-") for key in ("format", "encoding", "delimiter")]
    return [code(file.get("name", "")), f"{file.get('rows', 0):,}", *details, header]


def alert_section() -> list[str]:
    """All alerts, the gravest first."""
    lines: list[str] = []
    for severity, word in WORDS.items():
        mine = [a for a in alerts if a["severity"] == severity]
        lines += [f"### {word} ({len(mine)})", ""]
        for item in mine[:MAX_LISTED]:
            where = f"{code(item['column'])}: " if item["column"] else ""
            lines += [f"- {where}{plain(item['message'])}"]
        if len(mine) > MAX_LISTED:
            lines.append(f"- and {len(mine) - MAX_LISTED} more in data/alerts.json")
        lines += ["None.", ""] if not mine else [""]
    return lines


def target_section() -> list[str]:
    """How the target and the task were decided, and what any model must beat."""
    how = "You named it." if target["given"] else (
        f"Suggested with score {target['score']}: {plain(', '.join(target['reasons']))}."
    )  # fmt: skip
    lines = [f"The target is {code(target['name'])}. {how}", ""]
    lines += [f"The task is **{target['task']}**: {plain(target['task_reason'])}.", ""]
    if not target["given"] and target["runners_up"]:
        cells = [[code(r["name"]), str(r["score"]), plain(", ".join(r["reasons"]))]
                 for r in target["runners_up"]]  # fmt: skip
        lines += ["Other candidates:", "", *table(["Column", "Score", "Why"], cells)]
    if target["classes"]:
        total = sum(target["classes"].values())
        cells = [
            [code(k), f"{n:,}", f"{n / total:.2%}"] for k, n in list(target["classes"].items())[:30]
        ]
        lines += table(["Class", "Rows", "Share"], cells)
        low, high = min(target["classes"].values()), max(target["classes"].values())
        lines += [f"Balance, largest to smallest class: {high / low:.1f} to 1.", ""]
    if target["transform"]:
        lines += [f"Shape: {plain(target['transform'])}.", ""]
    lines += [f"Rows without a target: {target['missing']:,}.", ""]
    base = [[plain(k.replace("_", " ")), number(v)] for k, v in sorted(target["baseline"].items())]
    lines += ["A model must beat these:", "", *table(["Baseline", "Value"], base)]
    return lines + figure("target")


def signal_section() -> list[str]:
    """Features by their own predictive power."""
    if not signal:
        return [
            "No feature could be scored: the target has one value, or there are too few rows.",
            "",
        ]
    gap = [
        [
            code(r["column"]),
            ROLES.get(r["role"], r["role"]),
            f"{r['score']:.3f}",
            f"{r['ci_low']:.3f} to {r['ci_high']:.3f}",
            number(r["missing_auc"]),
            number(strengths.get(r["column"], (None, None))[0]),
            chance(strengths.get(r["column"], (None, None))[1]),
        ]
        for r in signal[:30]
    ]
    head = ["Feature", "Role", measure, "95% interval", "AUC of its gaps"]
    head += ["Association", "Adjusted p"]
    note = f"Each feature alone, five-fold cross-validated; {len(gap)} of {len(signal)} are shown."
    return [note, "", *figure("signal"), *table(head, gap), *figure("top_pair")]


def column_section() -> list[str]:
    """Numbers, levels, dates and texts, one table each."""
    numbers, levels, dates, texts = [], [], [], []
    for c in columns:
        name, gaps = code(c["name"]), f"{c['missing_effective'] / rows:.1%}"
        if c["numeric"] and c["numeric"]["n"]:
            s = c["numeric"]
            keys = ("mean", "std", "min", "p5", "p50", "p95", "max", "skew")
            share = f"{s['outliers_iqr_share']:.1%}"
            kind = ROLES.get(c["role"], c["role"])
            numbers.append([name, kind, gaps, *(number(s[k]) for k in keys), share])
        elif c["datetime"]:
            d = c["datetime"]
            cells = [d["min"][:19], d["max"][:19], d["granularity"], number(d["largest_gap_days"])]
            dates.append([name, gaps, *cells])
        elif c["text"]:
            t = c["text"]
            cells = [f"{c['distinct']:,}", number(t["length"]["p50"]), number(t["words_mean"])]
            texts.append([name, c["role"], gaps, *cells])
        elif c["categorical"]:
            g = c["categorical"]
            top = ", ".join(f"{code(v['value'])} {v['share']:.0%}" for v in g["top"][:3])
            levels.append([name, c["role"], gaps, f"{c['distinct']:,}", str(g["rare_levels"]), top])
        else:
            levels.append([name, c["role"], gaps, "0", "0", "-"])
    lines = []
    quantiles = ["Mean", "Std", "Min", "5%", "Median", "95%", "Max", "Skew", "Outliers"]
    parts = (
        ("Numbers", ["Column", "Role", "Missing", *quantiles], numbers),
        ("Categories", ["Column", "Role", "Missing", "Levels", "Rare", "Most frequent"], levels),
        ("Dates", ["Column", "Missing", "First", "Last", "Grain", "Largest gap (days)"], dates),
        ("Texts and ids", ["Column", "Role", "Missing", "Distinct", "Length", "Words"], texts),
    )
    for title, head, cells in parts:
        if cells:
            lines += [f"### {title}", "", *table(head, cells[:MAX_LISTED])]
        if len(cells) > MAX_LISTED:
            lines += [f"The first {MAX_LISTED} of {len(cells)}; all are in data/columns.csv.", ""]
    return [*lines, *figure("distributions"), *figure("levels"), *figure("outliers")]


def missing_section() -> list[str]:
    """Columns with gaps, and which gaps fall together."""
    gaps = read_table("data/missingness.csv")
    gaps = gaps[gaps["missing_effective"] > 0]
    if gaps.empty:
        return ["No value is missing.", ""]
    cells = [
        [
            code(r["column"]),
            f"{r['missing']:,}",
            f"{r['null_spellings']:,}",
            f"{r['missing_effective_share']:.1%}",
            together(r),
        ]
        for r in gaps.head(40).to_dict("records")
    ]
    head = ["Column", "Empty", "Text for missing", "Share", "Gaps shared with"]
    more = [f"The 40 with most gaps of {len(gaps)}.", ""] if len(gaps) > 40 else []
    return [*table(head, cells), *more, *figure("missing")]


def together(gap: dict[Any, Any]) -> str:
    """The column whose gaps fall on the same rows."""
    share = gap["together_share"]
    return f"{code(gap['together_with'])} {share:.0%}" if share > 0 else "-"


def association_section() -> list[str]:
    """The closest pairs of features."""
    about = profile["associations"]
    note = f"{about['columns']} columns on {about['rows']:,} rows."
    if about["capped"]:
        note += f" Pairs are capped at {about['columns']} columns; "
        note += f"{about['columns_left_out']:,} columns are not paired."
    close = pairs[(pairs["left"] != target["name"]) & (pairs["right"] != target["name"])].head(15)
    cells = [
        [
            code(r.left),
            code(r.right),
            str(r.kind).replace("-", " and "),
            f"{r.strength:.2f}",
            number(r.mutual_information),
            chance(r.p_adjusted),
            f"{r.n:,}",
        ]
        for r in close.itertuples()
        if r.strength == r.strength
    ]
    head = ["Column", "Column", "Types", "Strength", "Mutual information", "Adjusted p", "Rows"]
    return [note, "", *table(head, cells), *figure("associations")]


def structure_section() -> list[str]:
    """What the split must respect."""
    lines = []
    for kind, word in (("group", "Group"), ("time", "Time")):
        for item in structure[kind]:
            lines.append(f"- {word} {code(item['column'])}: {plain(item['reason'])}.")
    for item in structure["later_dates"]:
        lines.append(f"- {code(item['later'])} never lies before {code(item['earlier'])}.")
    if structure["time_like"]:
        names = joined(structure["time_like"])
        lines.append(f"- {names}: counts time but is no date, so it does not decide the split.")
    lines = lines or ["No repeated subjects and no dates were found."]
    return [*lines, "", *figure("time"), *figure("split")]


def leak_section() -> list[str]:
    """Features that may know the answer."""
    if not leaks:
        return ["No feature predicts the target suspiciously well.", ""]
    cells = [
        [code(k["column"]), WORDS[k["severity"]][:-1].lower(), k["metric"].replace("_", " "),
         f"{k['score']:.3f}", plain(k["reason"])]
        for k in leaks[:MAX_LISTED]
    ]  # fmt: skip
    return table(["Column", "Severity", "Measure", "Score", "Reason"], cells)


def plan_section() -> list[str]:
    """One bullet for each decision that Prep has to take."""
    lines = [
        f"- **{plain(row['id'])}**: {plain(row['what'])}; {plain(row['why'])}." for row in plan
    ]
    return [*lines, ""]


def method_section() -> list[str]:
    """Samples, thresholds, versions; where the times are."""
    about = profile["associations"]
    sampled = "All counts and statistics per column use every row."
    if data["sampled"]:
        sampled += f" Signal and structure use a random sample of {data['sample_rows']:,} rows."
    if about["rows"] < about["rows_available"]:
        sampled += f" Associations use a random sample of {about['rows']:,} rows."
    if rows > 20_000:
        sampled += " Figures of single rows show at most 20,000 rows."
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return [
        f"- {sampled} Every seed is 42.",
        f"- Signal: quantile bins or levels, smoothed means, {profile['signal']['folds']} folds, "
        "AUC (one class against the rest) or R2; intervals by Hanley and McNeil, or normal theory.",
        "- Leaks: error from 0.98, warning from 0.90 (the worst class counts); gaps from AUC 0.75.",
        "- Associations: Pearson and Spearman, correlation ratio, bias-corrected Cramer's V with "
        "rare levels merged, mutual information; p-values by Benjamini and Hochberg.",
        "- Missing: note from 5%, warning from 20%, error from 60%. "
        "Skew: note from 1, warning from 3.",
        f"- Versions: Python {platform.python_version()}, {versions}.",
        "- Seconds of each step: run_info.json.",
        "",
    ]


def read_table(path: str) -> pd.DataFrame:
    """A table of this stage, in which a column may be called NA or nothing at all."""
    head = pd.read_csv(path, nrows=0).columns
    names = [name for name in head if name in ("column", "left", "right", "together_with")]
    gaps = {name: [""] for name in head if name not in names}
    texts = dict.fromkeys(names, "str")
    return pd.read_csv(path, keep_default_na=False, na_values=gaps, dtype=texts)


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
alerts = json.loads(Path("data/alerts.json").read_text("utf-8"))
entries = json.loads(Path("data/figures.json").read_text("utf-8"))
figures = {entry["file"].removesuffix(".png"): entry for entry in entries}
plan = json.loads(Path("data/plan.json").read_text("utf-8"))
data, columns, target = profile["dataset"], profile["columns"], profile["target"]
structure, leaks, rows = profile["structure"], profile["leaks"], profile["dataset"]["rows"]
measure = "AUC" if profile["signal"]["metric"] == "auc" else "R2"
signal: list[Any] = read_table("data/target_signal.csv").to_dict("records")
pairs = read_table("data/associations.csv")
errors = {leak["column"] for leak in leaks if leak["severity"] == "error"}
mine = pairs[(pairs["left"] == target["name"]) | (pairs["right"] == target["name"])]
others = mine["left"].where(mine["left"] != target["name"], mine["right"])
strengths = dict(zip(others, zip(mine["strength"], mine["p_adjusted"], strict=True), strict=True))
report = [f"# EDA of {code(target['name'])}", "", "## Verdict", "", *verdict()]
if INSTRUCTIONS:
    report += [f"You asked: {plain(clip(INSTRUCTIONS))}", ""]
for title, section in (
    ("Dataset", dataset_section),
    ("Alerts", alert_section),
    ("Target and task", target_section),
    ("Signal ranking", signal_section),
    ("Columns", column_section),
    ("Missing values", missing_section),
    ("Associations", association_section),
    ("Time and group structure", structure_section),
    ("Leakage", leak_section),
    ("Plan for Prep", plan_section),
    ("Method", method_section),
):
    report += [f"## {title}", "", *section()]
Path("report.md").write_text("\n".join(report).rstrip() + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["report"] = round(time.process_time() - STARTED, 3)
info["versions"] = {"python": platform.python_version(), **{n: version(n) for n in LIBRARIES}}
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True) + "\n", "utf-8")
print("\n".join(line.replace("**", "") for line in verdict()) + "The whole report: report.md")

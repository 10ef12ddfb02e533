"""Write the report. What was decided, why, and how far to trust it."""

import json
import re
import time
from pathlib import Path
from typing import Any

ROWS = 60  # longest table


def cell(value: Any, width: int = 60) -> str:
    """Return a value that cannot break out of a Markdown table."""
    text = re.sub(r"\s+", " ", str(value)).strip()
    text = text if len(text) <= width else text[: width - 1] + "…"
    return re.sub(r"([\\`|<>*_\[\]])", r"\\\1", text)


def table(head: list[str], rows: list[list[Any]]) -> list[str]:
    """Return a Markdown table; what does not fit is counted."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(cell(value, 100) for value in row)} |" for row in rows[:ROWS]]
    rest = len(rows) - ROWS
    return [*lines, "", *([f"{rest} more are in the data folder.", ""] if rest > 0 else [])]


def evidence(row: dict[str, Any]) -> str:
    """Return the evidence of a decision as short text."""
    found = row["evidence"]
    if row["id"].startswith("drop."):
        return ""
    parts = [f"{name} {value}" for name, value in found.items() if value not in (None, {}, [])]
    return re.sub(r"[{}']", "", ", ".join(parts))


def verdict() -> list[str]:
    """Return five lines for a reader with no time."""
    sizes = {name: part["rows"] for name, part in metadata["splits"].items()}
    gone = len(metadata["dropped_columns"])
    objections = audit["findings"]
    how = {"stratified": "at random, with the same mix of the target in each"}
    how |= {"group": f"by whole groups of {cell(metadata['group_column'])}"}
    how |= {"time_forward": f"forward in time by {cell(metadata['time_column'])}"}
    how |= {"group_by_time": "by whole groups, later ones for the test"}
    said = "; ".join(cell(finding["message"], 200) for finding in objections)
    return [
        f"1. **Target** {cell(target)}: {metadata['problem']}, judged by `{metadata['metric']}`.",
        f"2. **Rows** {sizes['train']:,} train, {sizes['val']:,} validation,"
        f" {sizes['test']:,} test,"
        f" split {how[metadata['split_strategy']]}.",
        f"3. **Columns** {len(plan['columns'])} raw columns became {len(metadata['features'])}"
        f" features; {gone} dropped.",
        "4. **Proof** no raw row is in two splits; the saved pipeline gives the test features"
        f" again; a forest tells train from test with AUC {audit['adversarial_auc']:.2f}.",
        f"5. **Objections** {said or 'none.'}",
    ]


def split_lines() -> list[str]:
    """Return the section on the splits."""
    rows = []
    for name in ("train", "val", "test"):
        part = metadata["splits"][name]
        classes = part.get("classes", {})
        mix = ", ".join(f"{k} {v / part['rows']:.1%}" for k, v in list(classes.items())[:6])
        rows.append([name, f"{part['rows']:,}", mix or "see the figure"])
    lines = table(["split", "rows", "target"], rows)
    lines += [f"- {metadata['missing_target_rows']} rows have no target and are left out."]
    lines += [f"- {metadata['duplicates_removed']} rows of train repeat another and are left out."]
    if metadata["validation"]["method"] == "repeated_cv":
        lines += ["- With so few rows, one validation split cannot rank models: use repeated"]
        lines += [
            "  cross-validation on train and validation, and read the test score with its interval."
        ]
    weights = metadata["class_weights"]
    if weights:
        text = ", ".join(f"{cell(name, 30)} {w:.2f}" for name, w in list(weights.items())[:10])
        lines += [f"- Weights that balance the classes in train: {text}."]
    return [*lines, "", "Every raw row is accounted for in `data/splits.parquet`.", ""]


def dropped_lines() -> list[str]:
    """Return the section on the columns that were left out."""
    rows = [[name, why] for name, why in metadata["dropped_columns"].items()]
    return table(["column", "why"], rows) if rows else ["None.", ""]


def feature_lines() -> list[str]:
    """Return the section on the features, by raw column."""
    made: dict[str, list[str]] = {}
    for name, row in metadata["feature_map"].items():
        made.setdefault(row["source"], []).append(name)
    roles = {column["name"]: column["role"] for column in plan["columns"]}
    rows = []
    for source, names in made.items():
        text = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        rows.append([source, roles.get(source, ""), treatment(source), text])
    return table(["raw column", "role", "treatment", "features"], rows)


def treatment(source: str) -> str:
    """Return what was done to a raw column, in words."""
    words = {"number": "filled, scaled", "level": "one-hot", "rich": "target mean"}
    words |= {"date": "date parts", "text": "TF-IDF"}
    return " + ".join(words[block] for block in metadata["transforms"][source].split(" + "))


def check_lines() -> list[str]:
    """Return the section on what was checked."""
    difference = audit["target_difference"]
    best = audit["strongest_feature"]
    shared = sum(sum(row.values()) for row in audit["overlap"].values())
    twins = sum(row["identical_rows"] for row in audit["overlap"].values())
    rows = [
        ["train against test, forest", f"AUC {audit['adversarial_auc']:.3f}", "at most 0.60"],
        [
            "target between splits",
            f"{difference['largest']:.4f} {difference['unit']}",
            "close to 0",
        ],
        ["rows or groups in two splits", shared - twins, "0"],
        ["identical rows in two splits", twins, "0"],
        ["gaps in train, val, test", list(audit["nulls"].values()), "0"],
        ["pipeline gives test again", audit["pipeline_reproduces_test"], "True"],
        [
            "strongest single feature",
            f"{best['feature']}: {best['metric']} {best['score']:.3f}",
            "< 0.98",
        ],
    ]
    lines = table(["check", "found", "wanted"], rows)
    unseen = audit["unseen_levels_in_test"]
    if unseen:
        text = ", ".join(f"{cell(name)} {share:.1%}" for name, share in list(unseen.items())[:8])
        lines += [f"Test rows with a level that train never shows: {text}.", ""]
    return lines


def limit_lines() -> list[str]:
    """Return what this preparation cannot promise."""
    lines = [
        "- Roles of columns, ids and proxies of the target were found on all rows in EDA; medians,",
        "  encodings, words and scales were learned from train rows only.",
        "- Target means in `train.parquet` are cross-fitted, so the same level may have slightly",
        "  different numbers there; `pipeline.transform` gives one number a level.",
    ]
    if metadata["split_strategy"] == "stratified":
        lines += [
            "- The split holds if rows are independent. If they share people, places or days,"
        ]
        lines += ["  name them with `group=` or `time=`."]
    if metadata["outliers_flagged"]:
        names = ", ".join(cell(name, 30) for name in list(metadata["outliers_flagged"])[:8])
        lines += [f"- Far values were kept: {names}."]
    return [*lines, ""]


started = time.perf_counter()
plan = json.loads(Path("data/plan.json").read_text("utf-8"))
metadata = json.loads(Path("data/metadata.json").read_text("utf-8"))
audit = json.loads(Path("data/audit.json").read_text("utf-8"))
decisions = json.loads(Path("data/decisions.json").read_text("utf-8"))
captions = json.loads(Path("figures/captions.json").read_text("utf-8"))
target = metadata["target_column"]
versions = ", ".join(f"{name} {v}" for name, v in metadata["library_versions"].items())
decided = [
    [row["what"], row["choice"], row["why"], evidence(row), ", ".join(row["alternatives"])]
    for row in decisions
]
lines = [f"# Prep: data to predict {cell(target)}", "", "## Verdict", "", *verdict(), ""]
lines += ["## What was decided", ""]
lines += table(["what", "choice", "because", "evidence", "instead of"], decided)
lines += ["## Splits", "", *split_lines()]
lines += ["## Columns dropped and why", "", *dropped_lines()]
lines += ["## Features", "", *feature_lines()]
lines += ["## Checks", "", *check_lines()]
lines += ["## Figures", ""]
for figure in captions:
    lines += [f"![{cell(figure['alt'], 200)}]({figure['file']})", ""]
lines += ["## Limits", "", *limit_lines()]
lines += ["## Method", ""]
lines += ["Split first (70/15/15, seed 42), then every transformer fitted on the train rows only."]
lines += [f"The fitted pipeline takes raw rows and is in `data/prep_pipeline.pkl`. {versions}.", ""]
Path("report.md").write_text("\n".join(lines), "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["report"] = round(time.perf_counter() - started, 3)
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")
print("\n".join(["report.md is written.", *verdict()]))

"""Turn the findings into a plan. One row for each decision that Prep has to take."""

import json
import time
from pathlib import Path
from typing import Any

# Parameters
MAX_ROWS = 200
# End of parameters

STARTED = time.process_time()


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def row(key: str, what: str, why: str) -> dict[str, str]:
    """A decision: what to do and why."""
    return {"id": key, "what": what, "why": why}


def joined(names: list[str], limit: int = 6) -> str:
    """Names in one phrase; the rest is counted."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(clip(name) for name in names[:limit]) + more


def plan_split(profile: dict[str, Any]) -> dict[str, str]:
    """How the rows should be split."""
    structure, target = profile["structure"], profile["target"]
    if structure["group"]:
        first = structure["group"][0]
        what = f"split by {clip(first['column'])}, so that no subject is in two parts"
        return row("split.strategy", what, first["reason"])
    dated = structure["time"]
    for item in dated:
        if item["forward"]:
            what = f"split in the order of {clip(item['column'])}, the latest rows as test"
            return row("split.strategy", what, item["reason"])
    what = "split at random" + (", stratified by the target" if target["classes"] else "")
    why = dated[0]["reason"] if dated else "no repeated subjects and no dates were found"
    return row("split.strategy", what, why)


def plan_rows(profile: dict[str, Any]) -> list[dict[str, str]]:
    """Decisions about rows and the target."""
    data, target, found = profile["dataset"], profile["target"], []
    if target["missing"]:
        what = f"leave out {target['missing']:,} rows without a target"
        found.append(row("target.missing", what, "they can neither train nor test a model"))
    if target["transform"]:
        found.append(row("target.transform", "compare a transformed target", target["transform"]))
    if data["duplicate_rows"]:
        what = "keep repeated rows in one part and remove them in train only"
        why = f"{data['duplicate_rows']:,} rows repeat an earlier one"
        found.append(row("duplicates", what, why))
    return found


def plan_gaps(kept: list[dict[str, Any]], rows: int) -> list[dict[str, str]]:
    """How to fill what is missing."""
    found = []
    for column in kept:
        share = column["missing_effective"] / rows
        if not share:
            continue
        what = "fill with the median"
        if column["datetime"]:
            what = "fill the parts made from the date"
        elif column["categorical"]:
            what = "give the gaps a level of their own"
        if share > 0.05:
            what += " and add a flag for the gap"
        key = f"impute.{clip(column['name'])}"
        found.append(row(key, what, f"{share:.1%} of the values are missing"))
    return found


def plan_types(kept: list[dict[str, Any]]) -> list[dict[str, str]]:
    """How each kind of column becomes numbers."""
    small = [c["name"] for c in kept if c["role"] == "categorical" and c["distinct"] < 10]
    large = [c["name"] for c in kept if c["role"] == "categorical" and c["distinct"] >= 10]
    plans = (
        ("encode.one_hot", "one column for each level", "fewer than ten levels", small),
        ("encode.target", "cross-fitted target means", "ten levels or more", large),
        (
            "convert.numbers",
            "turn texts into numbers",
            "numbers are stored as text",
            "numeric_text",
        ),
        (
            "convert.dates",
            "turn dates into parts and elapsed time",
            "models need numbers",
            "datetime",
        ),
        ("convert.text", "turn texts into capped TF-IDF features", "free text", "text"),
    )
    found = []
    for key, what, why, select in plans:
        names = select
        if isinstance(select, str):
            names = [c["name"] for c in kept if c["role"] == select]
        if names:
            found.append(row(key, f"{what}: {joined(list(names))}", why))
    coded = [c["name"] for c in kept if c["sentinels"]]
    if coded:
        what = f"treat codes such as -1 or 999 as missing, or keep them on purpose: {joined(coded)}"
        found.append(row("convert.sentinels", what, "such values stand apart from all others"))
    return found


def plan_checks(profile: dict[str, Any], gone: set[str]) -> list[dict[str, str]]:
    """Questions that only somebody who knows the data can answer."""
    reasons: dict[str, str] = {}
    for leak in profile["leaks"]:
        if leak["severity"] == "warn" and leak["column"] not in gone:
            reasons.setdefault(leak["column"], leak["reason"])
    what = "ask whether it is known at prediction time; if not, leave it out"
    return [row(f"check.{clip(name)}", what, why) for name, why in reasons.items()]


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
gone = {item["column"] for item in profile["drop"]}
kept = [c for c in profile["columns"] if c["name"] not in gone and c["role"] != "target"]
drops = [
    row(f"drop.{clip(item['column'])}", "leave it out", item["reason"]) for item in profile["drop"]
]
plan = [
    plan_split(profile),
    *plan_rows(profile),
    *plan_checks(profile, gone),
    *plan_types(kept),
    *drops[:MAX_ROWS],
    *plan_gaps(kept, profile["dataset"]["rows"])[:MAX_ROWS],
]
text = json.dumps(plan, indent=2, sort_keys=True)
Path("data/plan.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["plan"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

for item in plan[:30]:
    print(f"{item['id']}: {item['what']}; {item['why']}.")
if len(plan) > 30:
    print(f"and {len(plan) - 30} more decisions in data/plan.json")

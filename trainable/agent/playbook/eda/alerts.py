"""Weigh all findings by severity. Say which columns Prep should leave out."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

STARTED = time.process_time()
ORDER = {"error": 0, "warn": 1, "info": 2}
NUMERIC = ("numeric", "integer", "ordinal", "numeric_text")
Alert = dict[str, Any]


def clip(value: Any) -> str:
    """A cell's text on one line, at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def alert(severity: str, code: str, column: str | None, message: str, **evidence: Any) -> Alert:
    """One finding; the message is a plain sentence."""
    found = {"severity": severity, "code": code, "column": column, "message": message}
    return {**found, "evidence": evidence}


def table_alerts(profile: dict[str, Any]) -> Iterator[Alert]:
    """Findings about the rows as a whole."""
    data = profile["dataset"]
    rows, repeats = data["rows"], data["duplicate_rows"]
    if repeats:
        severity = "warn" if repeats > 0.01 * rows else "info"
        text = f"{repeats:,} rows ({repeats / rows:.1%}) repeat an earlier row."
        yield alert(severity, "duplicate_rows", None, text, rows=repeats)
    clash = data["conflicting_label_rows"]
    if clash and profile["target"]["task"] == "classification":
        severity = "warn" if clash > 0.01 * rows else "info"
        text = f"{clash:,} rows ({clash / rows:.1%}) have equal features but different targets."
        yield alert(severity, "conflicting_labels", None, text, rows=clash)
    features = sum(c["role"] not in ("id", "constant", "target") for c in profile["columns"])
    known = rows - profile["target"]["missing"]
    if features > known:
        text = f"{features:,} features for {known:,} rows: screen features inside cross-validation."
        yield alert("error", "more_features_than_rows", None, text, features=features, rows=known)
    if known < 200:
        text = f"Only {known:,} rows with a target: a single test score will be uncertain."
        yield alert("warn", "few_rows", None, text, rows=known)
    if features == 0:
        text = "No column can serve as a feature."
        yield alert("error", "no_features", None, text)


def target_alerts(target: dict[str, Any], rows: int) -> Iterator[Alert]:
    """Findings about the target."""
    name = target["name"]
    if target["missing"]:
        count = target["missing"]
        text = f"{count:,} rows ({count / rows:.1%}) have no target; Prep leaves them out."
        severity = "warn" if count > 0.05 * rows else "info"
        yield alert(severity, "missing_target", name, text, rows=count)
    if target["ambiguous"]:
        text = f"Treated as {target['task']}: {target['task_reason']}."
        yield alert("warn", "ambiguous_task", name, text, task=target["task"])
    if target["transform"]:
        yield alert("info", "skewed_target", name, f"The target: {target['transform']}.")
    classes = target["classes"]
    if (
        target["task"] == "regression"
        and rows - target["missing"]
        and target["baseline"]["rmse"] == 0
    ):
        yield alert("error", "single_value_target", name, "The target has one value only.")
    if not classes:
        return
    if len(classes) == 1:
        yield alert("error", "single_class", name, "The target has one class only.")
        return
    total = sum(classes.values())
    smallest, count = min(classes.items(), key=lambda item: (item[1], item[0]))
    share = count / total
    tiny = [label for label, n in classes.items() if n < 10]
    if tiny:
        listed = ", ".join(clip(label) for label in tiny[:5])
        text = f"{len(tiny)} classes have fewer than 10 rows ({listed})."
        yield alert("error", "tiny_class", name, text, classes=[clip(t) for t in tiny[:20]])
    fair = 2 / len(classes)
    if share < 0.2 * fair:
        severity = "error" if share < 0.01 * fair else "warn" if share < 0.05 * fair else "info"
        text = f"The smallest class {clip(smallest)} has {share:.2%} of the rows."
        yield alert(severity, "imbalance", name, text, share=round(share, 6))


def gap_alerts(column: dict[str, Any], rows: int) -> Iterator[Alert]:
    """Findings about missing values and what stands for them."""
    name, missing = column["name"], column["missing_effective"]
    share = missing / rows
    if share == 1:
        yield alert("warn", "all_missing", name, "Every value is missing.")
        return
    if share > 0.05:
        severity = "error" if share > 0.6 else "warn" if share > 0.2 else "info"
        text = f"{share:.1%} of the values are missing."
        yield alert(severity, "missing_values", name, text, share=round(share, 6))
    if column["null_spellings"]:
        spelled = ", ".join(f'"{clip(k)}" x {v:,}' for k, v in column["null_spellings"].items())
        text = f"Text stands for missing values: {spelled}."
        yield alert("warn", "null_spelling", name, text, **{"spellings": column["null_spellings"]})
    if column["sentinels"]:
        coded = ", ".join(f"{k} x {v:,}" for k, v in column["sentinels"].items())
        text = f"Values that may be codes, not measurements: {coded}."
        yield alert("warn", "sentinel_values", name, text, values=column["sentinels"])


def number_alerts(column: dict[str, Any]) -> Iterator[Alert]:
    """Findings about the distribution of numbers."""
    name, stats = column["name"], column["numeric"]
    if not stats or stats["n"] < 3 or column["role"] not in (*NUMERIC, "target"):
        return
    if column["role"] == "numeric_text":
        left = column.get("unparsed") or []
        more = f"; not numbers: {', '.join(left)}" if left else ""
        yield alert("warn", "numeric_text", name, f"Numbers stored as text{more}.")
    if stats["inf"]:
        yield alert("warn", "infinite_values", name, f"{stats['inf']:,} values are infinite.")
    skew = stats["skew"] or 0
    if abs(skew) > 1 and column["distinct"] > 10:
        severity, word = ("warn", "Strongly skewed") if abs(skew) > 3 else ("info", "Skewed")
        yield alert(severity, "skewed", name, f"{word} ({skew:.2f}).", skew=skew)
    share = stats["outliers_iqr_share"]
    if share > 0.05 and column["distinct"] > 10:
        text = f"{share:.1%} of the values lie outside of 1.5 interquartile ranges."
        yield alert("info", "outliers", name, text, share=share)
    for end in ("min", "max"):
        if column["distinct"] > 20 and stats[f"{end}_share"] >= 0.05 and stats[end] != 0:
            text = f"{stats[f'{end}_share']:.1%} of the values equal the {end}imum {stats[end]:g}."
            yield alert("info", "piled_up", name, text, value=stats[end])
    if stats.get("vif", 0) > 10 and column["role"] != "target":
        shown = "more than 1,000" if stats["vif"] > 1000 else f"{stats['vif']:.0f}"
        text = f"The other numbers explain it (variance inflation {shown})."
        yield alert("info", "collinear", name, text, vif=stats["vif"])


def level_alerts(column: dict[str, Any], rows: int) -> Iterator[Alert]:
    """Findings about constants, ids, levels and dates."""
    name, stats, known = column["name"], column["categorical"], rows - column["missing_effective"]
    if column["role"] == "constant" and known:
        yield alert("warn", "constant", name, "It has one value only.")
    if column["role"] == "id":
        yield alert("warn", "id_like", name, "It names rows: nearly every value is different.")
    tops = column["numeric"].get("top_share") if column["numeric"] else None
    if stats and stats["top"]:
        tops = stats["top"][0]["share"]
    if tops and 1 > tops >= 0.995 and column["role"] not in ("constant", "target"):
        yield alert("warn", "near_constant", name, f"{tops:.1%} of its values are the same.")
    if stats and column["role"] in ("categorical", "target"):
        yield from spelling_alerts(column, known)
    dates = column["datetime"]
    if dates and dates["timezones_mixed"]:
        yield alert("warn", "mixed_timezones", name, "Some dates have a time zone and some do not.")
    if dates and dates["future"]:
        yield alert("warn", "future_dates", name, f"{dates['future']:,} dates lie in the future.")


def spelling_alerts(column: dict[str, Any], known: int) -> Iterator[Alert]:
    """Findings about the levels of a category."""
    name, stats = column["name"], column["categorical"]
    if stats["cardinality"] > 50 and stats["cardinality"] > 0.2 * known:
        text = f"{stats['cardinality']:,} levels in {known:,} values: encode by target or hash."
        yield alert("warn", "high_cardinality", name, text, levels=stats["cardinality"])
    if stats["variant_rows"] >= 0.01 * known and stats["variants"]:
        text = "Levels that differ in case, spaces or punctuation only: "
        text += ", ".join(stats["variants"][:6]) + "."
        yield alert("warn", "spelling_variants", name, text, rows=stats["variant_rows"])
    if 0.01 <= stats["number_like_share"] <= 0.1:
        text = f"{stats['number_like_share']:.1%} of its texts are numbers."
        yield alert("warn", "mixed_types", name, text)
    if stats["unseen_share"] >= 0.01 and column["role"] != "target":
        text = f"About {stats['unseen_share']:.1%} of new rows will hold a level not seen before."
        yield alert("info", "unseen_levels", name, text, share=stats["unseen_share"])


def copy_alerts(column: dict[str, Any]) -> Iterator[Alert]:
    """Findings about columns that repeat another."""
    if column["copy_of"]:
        text = f"An exact copy of {clip(column['copy_of'])}."
        yield alert("warn", "duplicate_column", column["name"], text, of=column["copy_of"])
    elif column["same_information_as"]:
        text = f"Says the same as {clip(column['same_information_as'])}, under other names."
        of = column["same_information_as"]
        yield alert("warn", "same_information", column["name"], text, of=of)


def pair_alerts(target: str, known_same: set[str]) -> Iterator[Alert]:
    """Findings about features that nearly repeat each other."""
    texts = {"left": "str", "right": "str"}
    table = pd.read_csv("data/associations.csv", keep_default_na=False, dtype=texts)
    table["strength"] = pd.to_numeric(table["strength"], errors="coerce")
    table = table[(table["left"] != target) & (table["right"] != target)]
    close = table[(table["strength"] > 0.9) & (table["kind"] != "category-number")]
    close = close[~(close["left"].isin(known_same) | close["right"].isin(known_same))]
    for row in close.head(50).itertuples():
        text = f"Strongly related to {clip(row.right)} ({row.strength:.2f}, {row.kind})."
        value = round(float(str(row.strength)), 4)
        yield alert("info", "related_pair", str(row.left), text, other=row.right, strength=value)


def leak_alerts(leaks: list[dict[str, Any]]) -> Iterator[Alert]:
    """Findings about features that know the target."""
    for leak in leaks:
        if leak["metric"] != "distinct_share":
            text = leak["reason"][0].upper() + leak["reason"][1:] + "."
            evidence = {"metric": leak["metric"], "score": leak["score"]}
            yield alert(leak["severity"], "leak", leak["column"], text, **evidence)


def advise_drops(profile: dict[str, Any]) -> list[dict[str, str]]:
    """Columns that Prep should leave out, with one reason each."""
    proxies = {k["column"]: k["reason"] for k in profile["leaks"] if k["severity"] == "error"}
    kept_groups = {item["column"] for item in profile["structure"]["group"]}
    drops = []
    for column in profile["columns"]:
        name, reason, code = column["name"], "", ""
        if column["role"] == "target":
            continue
        if name in proxies:
            reason, code = proxies[name], "target_proxy"
        elif column["missing_effective"] == profile["dataset"]["rows"]:
            reason, code = "every value is missing", "all_missing"
        elif column["role"] == "constant":
            reason, code = "it has one value only", "constant"
        elif column["copy_of"]:
            reason, code = f"an exact copy of {column['copy_of']}", "copy"
        elif column["role"] == "id":
            reason, code = "it names rows and explains nothing", "id"
        elif column["same_information_as"]:
            reason = f"says the same as {column['same_information_as']}"
            code = "same_information"
        if code and name not in kept_groups:
            drops.append({"column": name, "reason": reason, "code": code})
    return drops


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
rows, columns = profile["dataset"]["rows"], profile["columns"]
alerts = [*table_alerts(profile), *target_alerts(profile["target"], rows)]
alerts += leak_alerts(profile["leaks"])
for column in columns:
    if column["role"] != "target":
        alerts += gap_alerts(column, rows)
    alerts += [*level_alerts(column, rows), *number_alerts(column), *copy_alerts(column)]
same = {c["name"] for c in columns if c["copy_of"] or c["same_information_as"]}
alerts += pair_alerts(profile["target"]["name"], same)
alerts.sort(key=lambda item: ORDER[item["severity"]])
profile["drop"] = advise_drops(profile)
text = json.dumps(alerts, indent=2, sort_keys=True, allow_nan=False)
Path("data/alerts.json").write_text(text + "\n", "utf-8")
text = json.dumps(profile, indent=2, sort_keys=True, allow_nan=False)
Path("data/profile.json").write_text(text + "\n", "utf-8")
flat = [
    {
        **{k: c[k] for k in ("name", "dtype", "role", "missing", "missing_effective", "distinct")},
        **{k: v for k, v in (c["numeric"] or {}).items() if k != "histogram"},
        "top_level": c["categorical"]["top"][0]["value"] if c["categorical"] else None,
        "rare_levels": c["categorical"]["rare_levels"] if c["categorical"] else None,
        "entropy": c["categorical"]["entropy"] if c["categorical"] else None,
    }
    for c in columns
]
pd.DataFrame(flat).to_csv("data/columns.csv", index=False, lineterminator="\n")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["alerts"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

for severity in ORDER:
    mine = [item for item in alerts if item["severity"] == severity]
    print(f"{severity}: {len(mine)}")
    for item in mine[: 20 if severity == "error" else 10]:
        where = f"{clip(item['column'])}: " if item["column"] else ""
        print(f"  {where}{item['message']}")
for drop in profile["drop"][:20]:
    print(f"Prep should drop {clip(drop['column'])}: {drop['reason']}.")

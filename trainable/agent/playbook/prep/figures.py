"""Draw what the preparation did. Each title says what the figure shows."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from trainable import read_raw

sys.path.insert(0, "data")
import prep_pipeline

NAMES = ("train", "val", "test")
COLORS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}
KINDS = {
    "number": ("#0072B2", "number"),
    "level": ("#E69F00", "0/1 column a level"),
    "rich": ("#009E73", "target mean, frequency"),
    "date": ("#CC79A7", "date parts"),
    "text": ("#56B4E9", "words"),
}


def label(name: Any, width: int = 28) -> str:
    """Return a name from the data that is safe and short enough to draw."""
    text = "".join(c if c.isprintable() and ord(c) < 0x2E80 else "?" for c in str(name))
    text = text.replace("$", r"\$")
    return text if len(text) <= width else text[: width - 1] + "…"


def save(figure: Any, name: str, alt: str) -> None:
    """Write a figure with the text that stands for it."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(f"figures/{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    drawn.append({"file": f"figures/{name}.png", "alt": alt})
    print(f"figures/{name}.png: {alt}")


def draw_splits() -> None:
    """Show the target in each split."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    sizes = {name: f"{name}, {len(frames[name]):,} rows" for name in NAMES}
    gap = audit["target_difference"]["largest"]
    if metadata["task"] == "regression":
        for name in NAMES:
            values = np.sort(frames[name][target].to_numpy(dtype="float64"))
            share = np.linspace(0, 1, len(values))
            width = {"train": 5.0, "val": 2.5, "test": 1.0}[name]  # all stay visible
            axis.step(values, share, color=COLORS[name], label=sizes[name], linewidth=width)
        axis.set(xlabel=label(target), ylabel="share of rows at or below")
        title = f"Means of {label(target)} differ by at most {gap:.2f} deviations between splits"
    else:
        shares = pd.DataFrame(
            {n: frames[n][target].map(str).value_counts(normalize=True) for n in NAMES}
        ).fillna(0.0)
        shares = shares.loc[shares["train"].sort_values(ascending=False, kind="stable").index[:12]]
        for offset, name in enumerate(NAMES):
            places = np.arange(len(shares)) + (offset - 1) * 0.27
            axis.bar(places, shares[name] * 100, 0.25, color=COLORS[name], label=sizes[name])
        axis.set_xticks(range(len(shares)), [label(c, 14) for c in shares.index])
        axis.set(xlabel=label(target), ylabel="rows of the split, %")
        title = f"Shares of {label(target)} differ by at most {gap * 100:.1f} points between splits"
    axis.set_title(title, fontsize=11, loc="left")
    axis.legend(frameon=False)
    save(figure, "target_by_split", title)


def draw_columns() -> None:
    """Show how many features each raw column became."""
    counts: dict[str, dict[str, int]] = {}
    for row in metadata["feature_map"].values():
        kinds = counts.setdefault(row["source"], {})
        kinds[row["block"]] = kinds.get(row["block"], 0) + 1
    shown = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))[:25][::-1]
    figure, axis = plt.subplots(figsize=(7, 1.4 + 0.24 * len(shown)), layout="constrained")
    left = np.zeros(len(shown))
    for kind, (color, words) in KINDS.items():
        widths = np.array([counts[name].get(kind, 0) for name in shown])
        if widths.any():
            axis.barh(range(len(shown)), widths, left=left, color=color, label=words)
        left += widths
    axis.set_yticks(range(len(shown)), [label(name) for name in shown], fontsize=8)
    axis.set_xlabel("features made of the column")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    gone = len(metadata["dropped_columns"])
    title = f"{len(counts)} raw columns became {len(metadata['features'])} features"
    title += f"; {gone} dropped" if gone else ""
    title += f" (the {len(shown)} widest)" if len(counts) > len(shown) else ""
    axis.set_title(title, fontsize=11, loc="left")
    save(figure, "columns", title)


def draw_logs() -> None:
    """Show skewed columns before and after the logarithm."""
    logged = [column for column in plan["columns"] if column.get("log")][:3]
    if not logged:
        return
    read = prep_pipeline.RawColumns(logged).fit(None).transform(train)
    figure, axes = plt.subplots(
        2, len(logged), figsize=(2.8 * len(logged) + 1, 4.4), layout="constrained", squeeze=False
    )
    for place, column in enumerate(logged):
        values = read[column["name"]].dropna().to_numpy()
        after = np.sign(values) * np.log1p(np.abs(values))
        for row, (data, color) in enumerate(((values, "#999999"), (after, "#0072B2"))):
            axes[row, place].hist(data, bins=30, color=color)
            axes[row, place].set_xlabel(label(column["name"]) + (" (log1p)" if row else ""))
        axes[0, place].set_ylabel("" if place else "rows, before")
        axes[1, place].set_ylabel("" if place else "rows, after")
    total = sum(bool(column.get("log")) for column in plan["columns"])
    names = ", ".join(label(column["name"], 16) for column in logged)
    title = f"The logarithm pulls in {total} skewed column{'s' * (total > 1)}: {names}"
    title += ", ..." if total > len(logged) else ""
    figure.suptitle(title, fontsize=(9, 11, 11)[len(logged) - 1], x=0.02, ha="left")
    save(figure, "skewed", title)


def draw_gaps() -> None:
    """Show the gaps that were filled and whether they got a column of their own."""
    read = prep_pipeline.RawColumns(plan["columns"]).fit(None).transform(train)
    share = read.isna().mean()
    share = share[share > 0].sort_values(kind="stable").tail(20)
    if share.empty:
        return
    flagged = {row["source"] for name, row in metadata["feature_map"].items() if "_missing" in name}
    figure, axis = plt.subplots(figsize=(7, 1.5 + 0.26 * len(share)), layout="constrained")
    colors = ["#D55E00" if name in flagged else "#999999" for name in share.index]
    axis.barh(range(len(share)), share * 100, color=colors)
    axis.set_yticks(range(len(share)), [label(name) for name in share.index], fontsize=8)
    for place, value in enumerate(share):
        axis.text(value * 100, place, f" {value:.1%}", va="center", fontsize=8)
    axis.set_xlabel("missing in train, % (orange: a feature says that it is missing)")
    count = len(flagged & set(share.index))
    title = f"Gaps in {len(share)} column{'s' * (len(share) > 1)} are filled; {count} keep a mark"
    axis.set_title(title, fontsize=11, loc="left")
    save(figure, "gaps", title)


def draw_shift() -> None:
    """Show how far train and test differ, feature by feature."""
    rows = audit["shifts"][:12][::-1]
    figure, axis = plt.subplots(figsize=(7, 1.6 + 0.26 * len(rows)), layout="constrained")
    values = [row["ks"] for row in rows]
    n = [len(frames["train"]), len(frames["test"])]
    count = max(len(metadata["features"]), 1)
    limit = np.sqrt(-np.log(0.05 / count / 2) / 2 * (n[0] + n[1]) / (n[0] * n[1]))
    axis.barh(range(len(rows)), values, color="#0072B2")
    axis.axvline(limit, color="#D55E00", linestyle="--")
    axis.set_yticks(range(len(rows)), [label(row["feature"]) for row in rows], fontsize=8)
    axis.set_xlabel("Kolmogorov-Smirnov distance (chance alone stays left of the dashed line)")
    axis.set_xlim(0, max(limit, *values) * 1.15)
    beyond = sum(value > limit for value in values)
    auc = audit["adversarial_auc"]
    title = f"Train and test look alike: a forest tells them apart with AUC {auc:.2f}"
    if beyond:
        title = f"Train and test differ by more than chance in {beyond} of {count} features"
    axis.set_title(title, fontsize=11, loc="left")
    save(figure, "shift", title)


started = time.perf_counter()
Path("figures").mkdir(exist_ok=True)
plan = json.loads(Path("data/plan.json").read_text("utf-8"))
metadata = json.loads(Path("data/metadata.json").read_text("utf-8"))
audit = json.loads(Path("data/audit.json").read_text("utf-8"))
target = metadata["target_column"]
splits = pd.read_parquet("data/splits.parquet")
train = read_raw()[(splits["split"] == "train").to_numpy()].reset_index(drop=True)
train.attrs = {}
frames = {name: pd.read_parquet(f"data/{name}.parquet") for name in NAMES}
drawn: list[dict[str, str]] = []
for draw in (draw_splits, draw_columns, draw_gaps, draw_logs, draw_shift):
    draw()
Path("figures/captions.json").write_text(json.dumps(drawn, indent=2, sort_keys=True), "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["figures"] = round(time.perf_counter() - started, 3)
Path("run_info.json").write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")

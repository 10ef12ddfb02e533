"""Draw the columns. Gaps, the target, distributions by target, levels and outliers."""

import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

# Parameters
MAX_ROWS = 20_000
# End of parameters

STARTED = time.process_time()
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8A8A8A"
GLYPHS = get_font(findfont("DejaVu Sans")).get_charmap()
NUMERIC = ("numeric", "integer", "numeric_text")
plt.rcParams.update(
    {
        "figure.dpi": 100,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.titlesize": 12,
        "legend.frameon": False,
    }
)
drawn: list[dict[str, str]] = []


def label(value: Any, limit: int = 24) -> str:
    """A name that the font can show and that is no formula."""
    text = " ".join(str(value).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    shown = "".join(c if ord(c) in GLYPHS else "□" for c in text)
    return shown.replace("$", r"\$")


def save(fig: Figure, name: str, title: str, alt: str) -> None:
    """Write a figure, and note its title and what it shows for who cannot see it."""
    path = Path(f"figures/{name}.png")
    fig.savefig(path, metadata={"Software": None})
    plt.close(fig)
    if path.stat().st_size > 100_000:
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    plain = title.replace(r"\$", "$")
    drawn.append({"file": f"{name}.png", "title": plain, "alt": alt.replace(r"\$", "$")})
    print(f"figures/{name}.png: {plain}")


def save_plotly(name: str, traces: list[dict[str, Any]], title: str, axes: dict[str, str]) -> None:
    """Write the same figure in plotly's JSON form."""
    layout = {"title": {"text": title.replace(r"\$", "$")}, "template": "plotly_white"}
    for axis, text in axes.items():
        layout[axis] = {"title": {"text": text}, "automargin": True}
    body = json.dumps({"data": traces, "layout": layout}, sort_keys=True, allow_nan=False)
    Path(f"figures/{name}.plotly.json").write_text(body + "\n", "utf-8")


def draw_missing(columns: list[dict[str, Any]], rows: int) -> None:
    """Share of missing values of the columns that have gaps."""
    gaps = sorted(
        (c for c in columns if c["missing_effective"]), key=lambda c: -c["missing_effective"]
    )
    if not gaps:
        print("No figure of missing values: there are none.")
        return
    top = gaps[:40][::-1]
    share = [c["missing_effective"] / rows for c in top]
    height = 1.6 + 0.24 * len(top)
    fig, ax = plt.subplots(figsize=(8, height), layout="constrained")
    empty_text = [sum(c["null_spellings"].values()) / rows for c in top]
    names = [label(c["name"]) for c in top]
    places = np.arange(len(top))
    ax.barh(places, share, color=COLORS[0], label="no value")
    if any(empty_text):
        ax.barh(places, empty_text, color=COLORS[4], label='text such as "?" that means missing')
        fig.legend(loc="outside lower center", ncols=2)
    ax.set_yticks(places, names)
    ax.set_xlim(0, min(1.0, max(share) * 1.15))
    for place, part, column in zip(places, share, top, strict=True):
        ax.annotate(f" {part:.1%} ({column['missing_effective']:,})", (part, place), va="center")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(f"share of {rows:,} rows")
    worst = label(gaps[0]["name"])
    count = f"{len(gaps)} of {len(columns)} columns {'has' if len(gaps) == 1 else 'have'} gaps"
    title = f"{count}; {worst} misses {share[-1]:.0%} of its values"
    if share[-1] < 0.01:
        title = f"{count}, each below 1%"
    ax.set_title(title)
    save(fig, "missing", title, f"Bars of the missing share of {len(top)} columns. {title}.")
    trace = {"type": "bar", "orientation": "h", "x": share, "y": [c["name"] for c in top]}
    save_plotly("missing", [trace], title, {"xaxis": "share of rows missing"})


def draw_target(target: dict[str, Any], values: pd.Series) -> None:
    """Class counts, or the distribution of a number."""
    name = label(target["name"])
    fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    if target["classes"]:
        items = list(target["classes"].items())[:20]
        total = sum(target["classes"].values())
        counts = [count for _, count in items]
        names = [label(key) for key, _ in items]
        bars = ax.bar(names, counts, color=COLORS[0])
        ax.bar_label(bars, [f"{c:,}\n{c / total:.1%}" for c in counts], padding=2)
        ax.set_ylim(0, max(counts) * 1.2)
        ax.set_ylabel("rows")
        if len(items) > 8 or max(map(len, names)) > 12:
            ax.tick_params(axis="x", rotation=40)
        title = (
            f"{name}: {len(target['classes'])} classes, the largest holds {counts[0] / total:.0%}"
        )
        trace: dict[str, Any] = {"type": "bar", "x": [key for key, _ in items], "y": counts}
    else:
        numbers = values.dropna().to_numpy(float)
        bins = min(40, max(5, np.unique(numbers).size))
        heights, edges, _ = ax.hist(numbers, bins=bins, color=COLORS[0], edgecolor="white", lw=0.3)
        middle = float(np.median(numbers))
        ax.axvline(middle, color=COLORS[1], lw=1.5, label=f"median {middle:,.4g}")
        ax.axvline(
            numbers.mean(), color="black", lw=1, ls="--", label=f"mean {numbers.mean():,.4g}"
        )
        ax.legend()
        ax.set_ylabel("rows")
        skew = float(((numbers - numbers.mean()) ** 3).mean() / (numbers.std() ** 3 or 1))
        form = "roughly symmetric" if abs(skew) <= 0.5 else f"skewed (skew {skew:.1f})"
        title = f"{name} is {form}: median {middle:,.4g}, mean {numbers.mean():,.4g}"
        centers = ((edges[1:] + edges[:-1]) / 2).tolist()
        trace = {"type": "bar", "x": centers, "y": np.asarray(heights).tolist()}
    ax.set_xlabel(name)
    ax.set_title(title)
    save(fig, "target", title, f"Distribution of the target. {title}.")
    save_plotly("target", [trace], title, {"xaxis": target["name"], "yaxis": "rows"})


def split_by_target(target: dict[str, Any], values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """A small number of slices of the target: its classes, or low, middle and high."""
    if target["classes"]:
        shown = list(target["classes"])[:4]
        texts = values.map(
            lambda v: str(int(v)) if isinstance(v, float) and v.is_integer() else str(v),
            na_action="ignore",
        )
        codes = texts.map({name: i for i, name in enumerate(shown)}).fillna(-1).to_numpy(int)
        return codes, [label(name, 16) for name in shown]
    low, high = values.quantile([1 / 3, 2 / 3])
    codes = np.where(values.isna(), -1, (values > low).astype(int) + (values > high))
    if not (codes == 0).any() or np.unique(codes[codes >= 0]).size < 2:
        return np.where(values.isna(), -1, 0), ["all"]
    return codes, [f"low (up to {low:,.3g})", "middle", f"high (above {high:,.3g})"]


def draw_one_distribution(
    ax: Axes, values: pd.Series, codes: np.ndarray, names: list[str], caption: str
) -> None:
    """Histogram of one number in each slice of the target, as a share of the slice."""
    numbers = values.to_numpy(float)
    known = numbers[~np.isnan(numbers)]
    low, high = np.quantile(known, [0.005, 0.995])
    if high <= low:
        low, high = known.min(), known.max()
    whole = np.all(known == np.floor(known)) and high - low <= 25
    edges = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high, 26)
    for k, name in enumerate(names):
        mine = numbers[(codes == k) & ~np.isnan(numbers)]
        if mine.size:
            heights = np.histogram(mine, bins=edges)[0] / mine.size
            ax.stairs(heights, edges, color=COLORS[k], label=name, lw=1.4)
    ax.set_title(caption)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def draw_distributions(
    chosen: list[str], sample: pd.DataFrame, target: dict[str, Any], scores: dict[str, float]
) -> None:
    """The twelve most telling numbers, split by the target."""
    chosen = [name for name in chosen if sample[name].nunique() > 1][:12]
    if not chosen:
        print("No figure of distributions: no numeric features.")
        return
    codes, names = split_by_target(target, sample[target["name"]])
    across = min(4, len(chosen)) if len(chosen) != 4 else 2
    down = -(-len(chosen) // across)
    size = (max(8.0, 2.6 * across), 1.2 + 2.0 * down)
    fig, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    measure = "AUC" if target["classes"] else "R2"
    for ax, name in zip(axes.flat, chosen, strict=False):
        caption = label(name, 22)
        if name in scores:
            caption += f"\n{measure} {scores[name]:.2f}"
        draw_one_distribution(ax, sample[name], codes, names, caption)
    for ax in list(axes.flat)[len(chosen) :]:
        ax.remove()
    handles = axes[0][0].get_legend_handles_labels()
    legend_title = label(target["name"])
    fig.legend(*handles, loc="outside lower center", ncols=4, title=legend_title)
    best = label(chosen[0])
    title = f"{best} separates {legend_title} most clearly among the numbers"
    fig.suptitle(title)
    fig.supylabel("share of rows in the slice", fontsize=9)
    alt = f"Histograms of {len(chosen)} numeric features in slices of the target. {title}."
    save(fig, "distributions", title, alt)


def level_table(values: pd.Series, y: pd.Series, share: bool) -> pd.DataFrame:
    """Mean target of the eight most frequent levels, with a 95% interval."""
    if pd.api.types.is_numeric_dtype(values):
        values = values.astype("Int64")
    texts = values.astype("str").where(values.notna(), "(missing)")
    frame = pd.DataFrame({"level": texts, "y": y}).dropna(subset=["y"])
    table = frame.groupby("level")["y"].agg(["mean", "std", "count"])
    table = table[table["count"] >= min(5, table["count"].max())]
    table = table.sort_values("count", ascending=False, kind="stable").head(8)
    half = 1.96 * table["std"].fillna(0) / np.sqrt(table["count"])
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    if share:
        n, p, z = table["count"], table["mean"], 1.96**2
        half = 1.96 * np.sqrt(p * (1 - p) / n + z / (4 * n**2)) / (1 + z / n)
        center = (p + z / (2 * n)) / (1 + z / n)
        table["low"] = np.minimum(center - half, p).clip(0)
        table["high"] = np.maximum(center + half, p).clip(0, 1)
    return table.sort_values("mean")


def draw_levels(chosen: list[str], sample: pd.DataFrame, target: dict[str, Any]) -> None:
    """The mean target (or share of a class) at each level of the most telling categories."""
    chosen = [name for name in chosen if sample[name].nunique() > 1][:8]
    if not chosen:
        print("No figure of levels: no categorical features.")
        return
    y, what = sample[target["name"]], f"mean {label(target['name'])}"
    if target["classes"]:
        codes, names = split_by_target(target, y)
        pick = 1 if len(names) == 2 else 0
        y = pd.Series((codes == pick).astype(float), index=y.index).where(y.notna())
        what = f"share of {label(target['name'])} = {names[pick]}"
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    size = (max(8.0, 3.3 * across), 1.0 + 2.3 * down)
    fig, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    overall = float(y.mean())
    for ax, name in zip(axes.flat, chosen, strict=False):
        table = level_table(sample[name], y, bool(target["classes"]))
        places = np.arange(len(table))
        reach = [table["mean"] - table["low"], table["high"] - table["mean"]]
        ax.errorbar(table["mean"], places, xerr=reach, fmt="o", color=COLORS[0], capsize=2)
        ax.axvline(overall, color=GREY, lw=1, ls="--")
        texts = [f"{label(k, 16)} ({n:,})" for k, n in table["count"].items()]
        ax.set_yticks(places, texts)
        ax.set_ylim(-0.6, len(table) - 0.4)
        ax.set_title(label(name))
        if target["classes"]:
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.xaxis.set_major_locator(MaxNLocator(4))
    for ax in list(axes.flat)[len(chosen) :]:
        ax.remove()
    first = level_table(sample[chosen[0]], y, bool(target["classes"]))["mean"]
    style = "{:.0%}" if target["classes"] else "{:,.4g}"
    span = f"{style.format(first.iloc[0])} to {style.format(first.iloc[-1])}"
    title = f"The {what} runs from {span} across {label(chosen[0])}"
    fig.suptitle(title)
    fig.supxlabel(
        f"{what}, 95% interval (rows per level in brackets; dashed: all rows)", fontsize=9
    )
    save(fig, "levels", title, f"Dots of the {what} for levels of {len(chosen)} features. {title}.")


def draw_outliers(columns: list[dict[str, Any]], sample: pd.DataFrame) -> None:
    """How far the values of each number lie from its middle half."""
    usable = [
        c
        for c in columns
        if c["role"] in (*NUMERIC, "target")
        and c["numeric"]
        and c["distinct"] > 10
        and c["numeric"]["p75"] > c["numeric"]["p25"]
    ]
    if not usable:
        print("No figure of outliers: no numeric columns with spread.")
        return
    usable.sort(key=lambda c: -c["numeric"]["outliers_iqr_share"])
    top = usable[:20][::-1]
    fig, ax = plt.subplots(figsize=(8, 1.5 + 0.27 * len(top)), layout="constrained")
    random = np.random.default_rng(42)
    for place, column in enumerate(top):
        stats = column["numeric"]
        numbers = sample[column["name"]].dropna().to_numpy(float)
        scaled = (numbers - stats["p50"]) / (stats["p75"] - stats["p25"])
        low = (stats["p25"] - stats["p50"]) / (stats["p75"] - stats["p25"]) - 1.5
        far = scaled[(scaled < low) | (scaled > low + 4)]
        far = far[:: max(1, far.size // 300)]
        ax.plot([low, low + 4], [place, place], color=GREY, lw=1)
        ax.plot(
            [low + 1.5, low + 2.5], [place, place], color=COLORS[0], lw=6, solid_capstyle="butt"
        )
        shaken = place + random.uniform(-0.22, 0.22, far.size)
        ax.plot(far, shaken, ".", color=COLORS[1], ms=3, alpha=0.6)
    texts = [f"{label(c['name'])} ({c['numeric']['outliers_iqr_share']:.1%})" for c in top]
    ax.set_yticks(np.arange(len(top)), texts)
    ax.set_xscale("symlog", linthresh=3)
    steps = [1, 3, 10, 30, 100, 1000, 10_000, 100_000]
    low, high = ax.get_xlim()
    ticks = [t for t in [*(-s for s in steps[::-1]), 0, *steps] if low <= t <= high]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel(
        "distance from the median in interquartile ranges (bar: middle half; line: fences)"
    )
    worst = usable[0]
    share = worst["numeric"]["outliers_iqr_share"]
    title = f"{label(worst['name'])} has the most outliers: {share:.1%} lie beyond the fences"
    if share == 0:
        title = "No number has values beyond 1.5 interquartile ranges"
    ax.set_title(title)
    save(
        fig,
        "outliers",
        title,
        f"Strip of values beyond the fences for {len(top)} numbers. {title}.",
    )


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
target = profile["target"]
sample = pd.read_parquet("data/analysis.parquet")
full = len(sample)
if full > MAX_ROWS:
    sample = sample.iloc[np.sort(np.random.default_rng(42).permutation(full)[:MAX_ROWS])]
    print(f"Figures show a random sample of {MAX_ROWS:,} rows; counts in titles are of all rows.")
table = pd.read_csv("data/target_signal.csv", keep_default_na=False, dtype={"column": "str"})
scores = dict(zip(table["column"], table["score"].astype(float), strict=True))
leaking = {leak["column"] for leak in profile["leaks"] if leak["severity"] == "error"}
dropped = {item["column"] for item in profile["drop"]} | leaking
roles = {c["name"]: c["role"] for c in profile["columns"]}
ranked = sorted((n for n in roles if n not in dropped), key=lambda n: -scores.get(n, -9.0))
draw_missing(profile["columns"], profile["dataset"]["rows"])
draw_target(target, sample[target["name"]])
draw_distributions([n for n in ranked if roles[n] in NUMERIC], sample, target, scores)
levels = ("categorical", "boolean", "ordinal")
draw_levels([n for n in ranked if roles[n] in levels], sample, target)
draw_outliers(profile["columns"], sample)
text = json.dumps(drawn, indent=2, sort_keys=True)
Path("data/figures.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["figures"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

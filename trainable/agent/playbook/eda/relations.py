"""Draw the relations. Signal, associations, the strongest pair, time and the planned split."""

import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

# Parameters
MAX_POINTS = 1_500
# End of parameters

STARTED = time.process_time()
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8A8A8A"
GLYPHS = get_font(findfont("DejaVu Sans")).get_charmap()
plt.rcParams.update(
    {
        "figure.dpi": 100,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
)
drawn: list[dict[str, str]] = json.loads(Path("data/figures.json").read_text("utf-8"))


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


def draw_signal(table: pd.DataFrame, measure: str, errors: set[str], target: str) -> None:
    """Cross-validated score of each feature alone, with its 95% interval."""
    if table.empty:
        print("No figure of signal: no feature could be scored.")
        return
    top = table.head(20).iloc[::-1]
    fig, ax = plt.subplots(figsize=(8, 1.5 + 0.26 * len(top)), layout="constrained")
    places = np.arange(len(top))
    score = top["score"].to_numpy(float)
    reach = [score - top["ci_low"].to_numpy(float), top["ci_high"].to_numpy(float) - score]
    leaking = top["column"].isin(errors).to_numpy()
    for mask, color, name in ((~leaking, COLORS[0], "feature"), (leaking, COLORS[1], "leak")):
        if mask.any():
            part = [r[mask].clip(min=0) for r in reach]
            ax.errorbar(
                score[mask], places[mask], xerr=part, fmt="o", color=color, label=name, capsize=2
            )
    nothing = 0.5 if measure == "auc" else 0.0
    ax.axvline(nothing, color=GREY, ls="--", lw=1, label="no signal")
    ax.set_yticks(places, [label(name) for name in top["column"]])
    words = "AUC" if measure == "auc" else "R2"
    ax.set_xlabel(f"5-fold cross-validated {words} of the feature alone, 95% interval")
    ax.legend(loc="lower right")
    honest = table[~table["column"].isin(errors)]
    title = f"No single feature says much about {label(target)}"
    if len(honest) and honest["ci_low"].iloc[0] > nothing:
        best = honest.iloc[0]
        title = f"{label(best['column'])} alone says most about {label(target)}"
        title += f" ({words} {best['score']:.2f})"
    if errors:
        title += f"; {label(sorted(errors)[0])} leaks it"
    ax.set_title(title)
    save(fig, "signal", title, f"Dots with intervals for {len(top)} features. {title}.")
    spread = {"type": "data", "array": reach[1].tolist(), "arrayminus": reach[0].tolist()}
    trace = {"type": "scatter", "mode": "markers", "x": score.tolist(), "error_x": spread}
    trace["y"] = top["column"].astype("str").tolist()
    save_plotly("signal", [trace], title, {"xaxis": words})


def association_matrix(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """The strengths as a symmetric matrix, ones on the diagonal."""
    where = {name: i for i, name in enumerate(names)}
    part = table[table["left"].isin(where) & table["right"].isin(where)]
    matrix = np.zeros((len(names), len(names)))
    a, b = part["left"].map(where).to_numpy(int), part["right"].map(where).to_numpy(int)
    matrix[a, b] = matrix[b, a] = part["strength"].fillna(0).to_numpy(float)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def draw_associations(table: pd.DataFrame, target: str) -> None:
    """Clustered heat map of at most 40 columns, the most related first."""
    stacked = pd.concat([table["left"], table["right"]])
    strength = pd.concat([table["strength"], table["strength"]]).fillna(0)
    notable = strength.groupby(stacked.to_numpy()).max().sort_values(ascending=False, kind="stable")
    names = [target, *(n for n in notable.index if n != target)][:40]
    if len(names) < 3:
        print("No figure of associations: fewer than three columns to relate.")
        return
    matrix = association_matrix(table, names)
    order = leaves_list(linkage(squareform(1 - matrix, checks=False).clip(0), "average"))
    names, matrix = [names[i] for i in order], matrix[np.ix_(order, order)]
    side = 2.6 + (0.3 if len(names) <= 20 else 0.19) * len(names)
    fig, ax = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    image = ax.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
    places = np.arange(len(names))
    ax.set_xticks(places, [label(n, 18) for n in names], rotation=90)
    ax.set_yticks(places, [label(n, 18) for n in names])
    if len(names) <= 16:
        for i, j in zip(*np.nonzero(matrix >= 0.3), strict=True):
            shade = "black" if matrix[i, j] > 0.6 else "white"
            ax.text(j, i, f"{matrix[i, j]:.1f}", ha="center", va="center", color=shade, size=7)
    text = "strength from 0 to 1 (|r|, correlation ratio or Cramer's V, by types)"
    fig.colorbar(image, ax=ax, shrink=0.7).set_label(text, size=8)
    inner = table[(table["left"] != target) & (table["right"] != target)]
    count = int((inner["strength"] > 0.9).sum())
    title = f"{count} pairs of features nearly repeat each other (strength above 0.9)"
    if count == 1:
        title = "One pair of features nearly repeats itself (strength above 0.9)"
    if count == 0:
        title = "No two features repeat each other (no strength above 0.9)"
    ax.set_title(title, x=0.4)
    save(fig, "associations", title, f"Heat map of {len(names)} columns in clusters. {title}.")
    trace = {"type": "heatmap", "z": matrix.round(4).tolist(), "x": names, "y": names}
    save_plotly("associations", [{**trace, "zmin": 0, "zmax": 1}], title, {})


def choose_pair(signal: pd.DataFrame, table: pd.DataFrame, usable: set[str]) -> list[str]:
    """The two best features that do not repeat each other."""
    ranked = [str(name) for name in signal["column"] if name in usable]
    if len(ranked) < 2:
        return ranked
    close = table[table["strength"] > 0.85]
    near = set(zip(close["left"], close["right"], strict=True))
    first = ranked[0]
    for second in ranked[1:]:
        if (first, second) not in near and (second, first) not in near:
            return [first, second]
    return ranked[:2]


def place_on_axis(ax: Axes, axis: str, values: pd.Series, name: str) -> np.ndarray:
    """Coordinates of a feature; levels are spread a little, so that points do not hide."""
    set_name = ax.set_xlabel if axis == "x" else ax.set_ylabel
    set_name(label(name))
    random = np.random.default_rng(42 if axis == "x" else 43)
    if pd.api.types.is_datetime64_any_dtype(values):
        values = (values - values.min()).dt.total_seconds() / 86400
        set_name(f"{label(name)} (days since the first)")
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(float)
        steps = np.unique(numbers[~np.isnan(numbers)])
        if steps.size > 12 or np.any(steps != np.floor(steps)):
            return numbers
        (ax.set_xticks if axis == "x" else ax.set_yticks)(steps, [f"{s:,.0f}" for s in steps])
        return numbers + random.uniform(-0.25, 0.25, len(numbers))
    order = values.value_counts().index[:12]
    codes = pd.Categorical(values, categories=list(order)).codes.astype(float)
    ticks = ax.set_xticks if axis == "x" else ax.set_yticks
    ticks(np.arange(len(order)), [label(level, 14) for level in order])
    if axis == "x" and len(order) > 5:
        ax.tick_params(axis="x", rotation=40)
    return np.where(codes < 0, np.nan, codes + random.uniform(-0.3, 0.3, len(codes)))


def draw_pair(pair: list[str], sample: pd.DataFrame, target: dict[str, Any]) -> None:
    """The two best features against each other, colored by the target."""
    if len(pair) < 2:
        print("No figure of a pair: fewer than two scored features.")
        return
    part = sample[sample[target["name"]].notna()]
    picked = np.sort(np.random.default_rng(42).permutation(len(part))[:MAX_POINTS])
    part = part.iloc[picked]
    fig, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    x = place_on_axis(ax, "x", part[pair[0]], pair[0])
    y = place_on_axis(ax, "y", part[pair[1]], pair[1])
    values = part[target["name"]]
    if target["classes"]:
        texts = values.map(
            lambda v: str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
        )
        for k, name in enumerate(list(target["classes"])[:6]):
            mine = (texts == name).to_numpy()
            mark = "osD^vP"[k]
            ax.scatter(
                x[mine], y[mine], s=14, alpha=0.6, c=COLORS[k], marker=mark, lw=0, label=label(name)
            )
        ax.legend(title=label(target["name"]), loc="center left", bbox_to_anchor=(1.01, 0.5))
    else:
        low, high = values.quantile([0.02, 0.98])
        dots = ax.scatter(
            x, y, s=12, alpha=0.7, c=values, cmap="cividis", vmin=low, vmax=high, lw=0
        )
        fig.colorbar(dots, ax=ax).set_label(label(target["name"]))
    both = f"{label(pair[0])} and {label(pair[1])}"
    title = f"{both} are the most telling pair for {label(target['name'])}"
    ax.set_title(title)
    save(fig, "top_pair", title, f"Scatter of {len(part):,} rows colored by the target. {title}.")


def draw_time(name: str, sample: pd.DataFrame, target: dict[str, Any], factor: float) -> None:
    """Rows over time, and the target over time."""
    part = sample[[name, target["name"]]].dropna()
    span = (part[name].max() - part[name].min()).days
    step = "D" if span <= 90 else "W" if span <= 730 else "MS" if span <= 7300 else "YS"
    word = {"D": "day", "W": "week", "MS": "month", "YS": "year"}[step]
    y = part[target["name"]]
    what = f"mean {label(target['name'])}"
    if target["classes"]:
        top = y.value_counts().index[0]
        whole = isinstance(top, float) and top.is_integer()
        what = f"share of {label(target['name'])} = {int(top) if whole else label(top)}"
        y = (y == top).astype(float)
    groups = y.set_axis(part[name]).sort_index().resample(step)
    count, mean = groups.size() * factor, groups.mean()
    fig, (upper, lower) = plt.subplots(2, 1, figsize=(8, 4.4), sharex=True, layout="constrained")
    upper.fill_between(count.index, count.to_numpy(), step="mid", color=COLORS[0], alpha=0.8, lw=0)
    upper.set_ylabel(f"rows per {word}")
    upper.set_ylim(0)
    lower.plot(mean.index, mean.to_numpy(), color=COLORS[1], marker=".", ms=3, lw=1)
    lower.set_ylabel(what if len(what) < 26 else "target")
    lower.set_xlabel(f"{label(name)} (per {word})")
    places = AutoDateLocator(minticks=3, maxticks=8)
    lower.xaxis.set_major_locator(places)
    lower.xaxis.set_major_formatter(ConciseDateFormatter(places))
    empty = int((count == 0).sum())
    first, last = part[name].min().date(), part[name].max().date()
    title = f"Rows run from {first} to {last}; {empty} of {len(count)} {word}s are empty"
    upper.set_title(title)
    save(
        fig,
        "time",
        title,
        f"Rows and {what} for each {word} of {name}. {title}.".replace("\n", " "),
    )


def draw_split(target: dict[str, Any], structure: dict[str, Any], rows: int) -> None:
    """How the rows would be shared out, by class where there are classes."""
    known = rows - target["missing"]
    parts = {"train": 0.70, "val": 0.15, "test": 0.15}
    names, counts = ["all rows"], np.array([known], float)
    if target["classes"]:
        items = list(target["classes"].items())[:12]
        names, counts = [label(k) for k, _ in items], np.array([v for _, v in items], float)
    fig, ax = plt.subplots(figsize=(8, 1.6 + 0.3 * len(names)), layout="constrained")
    left = np.zeros(len(names))
    places = np.arange(len(names))[::-1]
    for (part, share), color in zip(parts.items(), COLORS, strict=False):
        width = counts * share
        bars = ax.barh(places, width, left=left, color=color, label=f"{part} {share:.0%}")
        texts = [f"{w:,.0f}" if w > counts.max() * 0.05 else "" for w in width]
        ax.bar_label(bars, texts, label_type="center", color="white")
        left += width
    ax.set_yticks(places, names)
    ax.set_xlabel("rows")
    fig.legend(loc="outside right upper")
    how = "at random, equal class shares" if target["classes"] else "at random"
    if structure["group"]:
        how = f"by {label(structure['group'][0]['column'])}, each subject in one part"
    elif any(item["forward"] for item in structure["time"]):
        first = next(item["column"] for item in structure["time"] if item["forward"])
        how = f"in the order of {label(first)}, the latest rows as test"
    least = counts.min() * 0.15
    title = f"Planned split {how}: about {known * 0.15:,.0f} test rows"
    if target["classes"] and len(counts) > 1:
        title += f", {least:,.0f} of the rarest class"
    ax.set_title(title)
    save(fig, "split", title, f"Bars of train, validation and test rows. {title}.")


def read_table(path: str) -> pd.DataFrame:
    """A table of this stage, in which a column may be called NA or nothing at all."""
    head = pd.read_csv(path, nrows=0).columns
    names = [name for name in head if name in ("column", "left", "right")]
    gaps = {name: [""] for name in head if name not in names}
    texts = dict.fromkeys(names, "str")
    return pd.read_csv(path, keep_default_na=False, na_values=gaps, dtype=texts)


profile = json.loads(Path("data/profile.json").read_text("utf-8"))
target, total = profile["target"], profile["dataset"]["rows"]
sample = pd.read_parquet("data/analysis.parquet")
signal = read_table("data/target_signal.csv")
table = read_table("data/associations.csv")
errors = {leak["column"] for leak in profile["leaks"] if leak["severity"] == "error"}
left_out = {item["column"] for item in profile["drop"]} | errors
draw_signal(signal, profile["signal"]["metric"], errors, target["name"])
draw_associations(table, target["name"])
draw_pair(choose_pair(signal, table, set(signal["column"]) - left_out), sample, target)
dated = profile["structure"]["time"]
if dated and pd.api.types.is_datetime64_any_dtype(sample[dated[0]["column"]]):
    draw_time(dated[0]["column"], sample, target, total / len(sample))
else:
    print("No figure of time: no date column.")
draw_split(target, profile["structure"], total)
text = json.dumps(drawn, indent=2, sort_keys=True)
Path("data/figures.json").write_text(text + "\n", "utf-8")
info = json.loads(Path("run_info.json").read_text("utf-8"))
info["cpu_seconds"]["relations"] = round(time.process_time() - STARTED, 3)
Path("run_info.json").write_text(json.dumps(info) + "\n", "utf-8")

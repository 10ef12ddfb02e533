"""Draw what the model looks at. Permutation importance, SHAP, weak segments."""

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
EXPLAIN = json.loads(Path("work/explain.json").read_text("utf-8"))
SHAP = np.load("work/shap.npz")
DRAWN = json.loads(Path("work/figures.json").read_text("utf-8"))
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"
GLYPHS = FT2Font(findfont("DejaVu Sans")).get_charmap()
mpl.rcParams.update({
    "figure.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10, "axes.titlelocation": "left", "font.family": "DejaVu Sans",
    "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
})  # fmt: skip


def plain(text, width=28):
    """Return text that a figure can show: one line, known glyphs, no formulas."""
    line = " ".join(str(text).split())
    line = line if len(line) <= width else line[: width - 3] + "..."
    return "".join(c if ord(c) in GLYPHS else "?" for c in line).replace("$", r"\$")


def save(figure, name, finding):
    figure.savefig(f"figures/{name}.png", metadata={"Software": None}, bbox_inches="tight")
    plt.close(figure)
    DRAWN[name] = finding
    print(f"figures/{name}.png: {finding}")


def permutation():
    rows = EXPLAIN["permutation"][:15]
    figure, axes = plt.subplots(figsize=(6.4, 0.3 * len(rows) + 1.2))
    for place, row in enumerate(rows[::-1]):
        color = BLUE if row["low"] > 0 else GREY
        axes.plot([row["low"], row["high"]], [place, place], color=color, lw=1.5)
        axes.plot(row["drop"], place, "o", color=color)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(rows)), [plain(row["column"]) for row in rows[::-1]])
    word = {"roc_auc": "ROC-AUC lost", "log_loss": "log-loss added", "rmse": "RMSE added"}
    axes.set_xlabel(f"{word[SETUP['metric']]} when the column is shuffled, 95 % interval")
    clear = sum(row["low"] > 0 for row in EXPLAIN["permutation"])
    finding = f"{clear} of {len(EXPLAIN['permutation'])} columns matter beyond noise"
    if clear:
        finding += f"; {plain(rows[0]['column'])} most"
    axes.set_title(finding)
    save(figure, "permutation_importance", finding)


def spread(values, width=0.38):
    """Return heights for a swarm: dense places are wide, and the order of rows decides nothing."""
    bins = np.digitize(values, np.linspace(values.min(), values.max() + 1e-12, 60))
    heights = np.zeros(len(values))
    most = np.bincount(bins).max()
    for number in np.unique(bins):
        rows = np.flatnonzero(bins == number)
        reach = width * len(rows) / most
        heights[rows] = np.linspace(-reach, reach, len(rows)) if len(rows) > 1 else 0
    return heights


def ranks(values):
    """Return where each value stands between the least (0) and the highest (1) of its column."""
    known, place = np.unique(values, return_inverse=True)
    return place / max(1, len(known) - 1)


def beeswarm():
    order = np.argsort(-SHAP["effect"], kind="stable")[:12]
    figure, axes = plt.subplots(figsize=(7, 0.38 * len(order) + 1.2))
    dots = None
    for place, column in enumerate(order[::-1]):
        values = SHAP["values"][:, column]
        dots = axes.scatter(values, place + spread(values), c=ranks(SHAP["rows"][:, column]),
                            cmap="cividis", s=7, linewidths=0)  # fmt: skip
    axes.set_yticks(range(len(order)), [plain(SETUP["features"][c]) for c in order[::-1]])
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(visible=False, axis="y")
    about = f" of {plain(EXPLAIN['shap_class'], 20)!r}" if EXPLAIN["shap_class"] else ""
    axes.set_xlabel(f"SHAP value in {EXPLAIN['shap_model']}{about} (right: pushes it up)")
    bar = figure.colorbar(dots, ax=axes, ticks=[0, 1])
    bar.ax.set_yticklabels(["low", "high"])
    bar.set_label("value of the feature")
    share = SHAP["effect"][order[0]] / max(SHAP["effect"].sum(), 1e-12)
    finding = f"{plain(SETUP['features'][order[0]])} makes {share:.0%} of the effect on predictions"
    axes.set_title(finding)
    save(figure, "shap_beeswarm", finding)


def direction(values, effect):
    """Say in words which way a feature pushes."""
    if np.ptp(values) == 0 or np.ptp(effect) == 0:
        return "no effect"
    slope = np.corrcoef(ranks(values), effect)[0, 1]
    return "higher pushes up" if slope > 0.5 else "higher pushes down" if slope < -0.5 else (
        "mixed or bent")  # fmt: skip


def dependence():
    order = np.argsort(-SHAP["effect"], kind="stable")[:5]
    figure, panels = plt.subplots(1, len(order), figsize=(2.7 * len(order), 2.7), squeeze=False)
    words = []
    for axes, column in zip(panels[0], order, strict=True):
        values, effect = SHAP["rows"][:, column], SHAP["values"][:, column]
        axes.plot(values, effect, "o", ms=3, alpha=0.5, color=BLUE, mew=0)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xlabel(plain(SETUP["features"][column], 24) + " (prepared)", fontsize=8)
        words.append(direction(values, effect))
        axes.set_title(words[-1], fontsize=9)
    panels[0][0].set_ylabel("SHAP value")
    figure.tight_layout()
    finding = f"{plain(SETUP['features'][order[0]])}: {words[0]}"
    save(figure, "shap_dependence", finding)


def segments():
    rows = EXPLAIN["weak"]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(6.6, 0.4 * len(rows) + 1.3))
    for place, row in enumerate(rows[::-1]):
        axes.plot([row["loss_elsewhere"], row["loss"]], [place, place], color=GREY, lw=1)
        axes.plot(row["loss_elsewhere"], place, "o", color=GREY)
        axes.plot(row["loss"], place, "o", color=ORANGE)
    names = [plain(f"{row['column']} {row['segment']} ({row['rows']})", 44) for row in rows[::-1]]
    axes.set_yticks(range(len(rows)), names)
    kind = "absolute error" if SETUP["classes"] is None else "log-loss"
    axes.set_xlabel(f"mean {kind}: in the segment (orange), elsewhere (grey)")
    top = rows[0]
    times = top["loss"] / max(top["loss_elsewhere"], 1e-12)
    finding = f"Errors are {times:.1f} times as large where {plain(top['column'])} "
    finding += plain(top["segment"])
    axes.set_title(finding)
    save(figure, "weak_segments", finding)


permutation()
beeswarm()
dependence()
segments()
Path("work/figures.json").write_text(json.dumps(DRAWN, indent=2, sort_keys=True), "utf-8")

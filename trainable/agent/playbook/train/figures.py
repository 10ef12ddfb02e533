"""Draw how good the models are. Ranking, curves, calibration, errors."""

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from scipy.stats import norm
from sklearn.metrics import precision_recall_curve, roc_curve

SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
WINNER = json.loads(Path("work/winner.json").read_text("utf-8"))
TEST = json.loads(Path("work/test.json").read_text("utf-8"))
TUNE = json.loads(Path("work/tune.json").read_text("utf-8"))
CURVES = json.loads(Path("work/candidates.json").read_text("utf-8"))["curves"]
CLASSES = SETUP["classes"]
METRIC = {"roc_auc": "ROC-AUC", "log_loss": "log-loss", "rmse": "RMSE"}[SETUP["metric"]]
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY)
GLYPHS = FT2Font(findfont("DejaVu Sans")).get_charmap()
mpl.rcParams.update({
    "figure.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10, "axes.titlelocation": "left", "font.family": "DejaVu Sans",
    "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
})  # fmt: skip
TABLE = pd.read_parquet("data/test_predictions.parquet")
DRAWN = {}


def plain(text, width=28):
    """Return text that a figure can show: one line, known glyphs, no formulas."""
    line = " ".join(str(text).split())
    line = line if len(line) <= width else line[: width - 3] + "..."
    return "".join(c if ord(c) in GLYPHS else "?" for c in line).replace("$", r"\$")


def save(figure, name, finding):
    """Write a figure without anything in it that differs between runs."""
    figure.savefig(f"figures/{name}.png", metadata={"Software": None}, bbox_inches="tight")
    plt.close(figure)
    DRAWN[name] = finding


def leaderboard():
    board = pd.read_csv("data/leaderboard.csv")
    rest = board[board["family"] != "baseline"]
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(board) + 1.2))
    low, high = rest["val_low"].min(), rest["val_high"].max()
    margin = 0.08 * (high - low)
    for place, row in enumerate(board.iloc[::-1].to_dict("records")):
        if not low - margin < row["val"] < high + margin:  # far off: say it, keep the scale
            right = row["val"] > high
            axes.text(high if right else low, place, f"{row['val']:.4g}", color=GREY, va="center",
                      ha="right" if right else "left")  # fmt: skip
            continue
        color = ORANGE if row["chosen"] else GREY if row["family"] == "baseline" else BLUE
        axes.plot([row["val_low"], row["val_high"]], [place, place], color=color, lw=2)
        axes.plot(row["val"], place, "o", color=color)
    axes.set_xlim(low - margin, high + margin)
    labels = [plain(name, 34) for name in board["model"][::-1]]
    axes.set_yticks(range(len(board)), labels)
    axes.set_xlabel(f"validation {METRIC} with 95 % interval (orange: chosen)")
    best = rest.iloc[0]
    close = ((rest["val_low"] <= best["val"]) & (best["val"] <= rest["val_high"])).sum()
    finding = f"{close} of {len(rest)} models may be the best: their intervals hold the top score"
    if close == 1:
        finding = f"{best['model']} is ahead of the other {len(rest) - 1} models"
    axes.set_title(finding)
    save(figure, "leaderboard", finding)


def boosting():
    if not CURVES:
        return
    figure, panels = plt.subplots(1, len(CURVES), figsize=(3.6 * len(CURVES), 3), squeeze=False)
    gaps = []
    for axes, (name, points) in zip(panels[0], sorted(CURVES.items()), strict=True):
        step, train, val = np.array(points).T
        axes.plot(step, train, color=GREY, label="training")
        axes.plot(step, val, color=BLUE, label="validation")
        axes.set_xlabel(f"rounds of {name}")
        gaps.append((name, step[int(np.argmin(val))], step[-1]))
        axes.legend()
    panels[0][0].set_ylabel(TUNE["loss"].replace("_", "-"))
    name, low, last = gaps[0]
    finding = f"{name}: validation loss is lowest near round {int(low)} of {int(last) + 1}"
    figure.suptitle(finding, x=0.02, ha="left", fontsize=10)
    save(figure, "boosting", finding)


def tuning():
    trials = pd.read_csv("data/trials.csv")
    loss = TUNE["loss"]
    done = trials.dropna(subset=[loss])
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(done["trial"], done[loss], "o", color=BLUE, label="trial")
    axes.step(done["trial"], done[loss].cummin(), where="post", color=ORANGE, label="best so far")
    cut = trials[trials["state"] == "pruned"]
    axes.plot(cut["trial"], np.full(len(cut), done[loss].max()), "|", color=GREY, label="cut short")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"held-out {loss.replace('_', '-')}")
    axes.legend()
    change = (1 - TUNE["after"] / TUNE["before"]) * 100 if TUNE["before"] else 0.0
    found = int(done.loc[done[loss].idxmin(), "trial"])
    finding = f"Tuning {TUNE['base']} lowers its loss by {change:.1f} %, found in trial {found}"
    if change <= 0:
        finding = f"Tuning {TUNE['base']} finds nothing better than its first settings"
    axes.set_title(finding)
    save(figure, "tuning", finding)


def curves(truth, chance):
    """Draw ROC and precision-recall side by side."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.4))
    wrong, caught, _ = roc_curve(truth, chance)
    left.plot(wrong, caught, color=BLUE)
    left.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
    low, high = TEST["ci95"]["roc_auc"]
    left.set_title(f"ROC-AUC {TEST['test_metrics']['roc_auc']:.3f} ({low:.3f} to {high:.3f})")
    left.set_xlabel("false alarms / all negatives")
    left.set_ylabel("caught / all positives")
    precision, recall, _ = precision_recall_curve(truth, chance)
    right.plot(recall, precision, color=BLUE)
    share = truth.mean()
    right.axhline(share, ls="--", color=GREY, lw=1)
    right.text(0.01, share + 0.01, f"prevalence {share:.2f}", color=GREY, fontsize=8)
    right.set_ylim(0, 1.03)
    right.set_title(f"Average precision {TEST['test_metrics']['pr_auc']:.3f}")
    right.set_xlabel(f"recall of {plain(CLASSES[1])}")
    right.set_ylabel("precision")
    figure.tight_layout()
    save(
        figure, "roc_pr", f"ROC-AUC {TEST['test_metrics']['roc_auc']:.3f} on {len(truth)} test rows"
    )


def calibration(top, right):
    """Draw how often the model is right for what it claims."""
    order = np.argsort(top, kind="stable")
    bins = [b for b in np.array_split(order, min(10, max(2, len(order) // 15))) if len(b)]
    claimed = np.array([top[b].mean() for b in bins])
    seen = np.array([right[b].mean() for b in bins])
    size = np.array([len(b) for b in bins])
    z = norm.ppf(0.975)  # Wilson's interval, which holds at 0 and 1 as well
    middle = (seen + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * np.sqrt(seen * (1 - seen) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    figure, axes = plt.subplots(figsize=(4.4, 3.8))
    axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
    axes.vlines(claimed, middle - half, middle + half, color=BLUE, lw=1.5)
    axes.plot(claimed, seen, "o", color=BLUE)
    axes.set_xlabel("predicted probability (equal-sized bins)")
    axes.set_ylabel("observed share, 95 % interval")
    off = int(((claimed < middle - half) | (claimed > middle + half)).sum())
    error = TEST["calibration"]["ece"]
    finding = (
        f"Probabilities are off by {error:.3f} on average; {off} of {len(bins)} bins beyond noise"
    )
    axes.set_title(f"Probabilities are off by {error:.3f} on average;\n"
                   f"{off} of {len(bins)} bins beyond noise")  # fmt: skip
    save(figure, "calibration", finding)


def confusion():
    """Draw counts and row shares of the most frequent classes."""
    counts = TABLE["y_true"].value_counts()
    shown = [c for c in CLASSES if c in set(counts.index[:12])]
    table = pd.crosstab(TABLE["y_true"], TABLE["y_pred"]).reindex(
        index=shown, columns=shown, fill_value=0
    )
    cells = table.to_numpy()
    share = cells / np.maximum(TABLE["y_true"].value_counts().reindex(shown).to_numpy()[:, None], 1)
    side = 1.0 * len(shown) + 2.2
    figure, axes = plt.subplots(figsize=(side + 0.8, side * 0.85))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(cells):
        color = "white" if share[i, j] > 0.55 else "black"
        axes.text(j, i, f"{count}\n{share[i, j]:.0%}", ha="center", va="center", color=color)
    names = [plain(c, 16) for c in shown]
    axes.set_xticks(range(len(shown)), names, rotation=30 if len(shown) > 3 else 0)
    axes.set_yticks(range(len(shown)), names)
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual (% of the row)")
    recall = np.diag(share)
    worst = int(np.argmin(recall))
    finding = f"{names[worst]!r} is found in {recall[worst]:.0%} of its rows"
    finding += ", the least of all" if len(shown) > 2 else f", {names[1 - worst]!r} in "
    finding += "" if len(shown) > 2 else f"{recall[1 - worst]:.0%}"
    axes.set_title(finding)
    save(figure, "confusion", finding)


def thresholds():
    table = pd.read_csv("work/thresholds.csv")
    edge = WINNER["threshold"]
    figure, axes = plt.subplots(figsize=(6, 3.2))
    for name, color in (("precision", GREY), ("recall", GREEN), ("f1", BLUE), ("mcc", ORANGE)):
        label = {"f1": "F1", "mcc": "MCC"}.get(name, name)
        axes.plot(table["threshold"], table[name], color=color, label=label)
    axes.axvline(edge, ls="--", color="black", lw=1)
    axes.set_xlabel("decision threshold (held-out training and validation rows)")
    axes.legend(ncols=4, loc="lower center")
    axes.set_ylim(bottom=min(0, table["mcc"].min()))
    near = table.iloc[(table["threshold"] - edge).abs().argmin()]
    finding = (f"Threshold {edge:.2f}: precision {near['precision']:.2f}, recall "
               f"{near['recall']:.2f}, MCC {near['mcc']:.2f}")  # fmt: skip
    axes.set_title(finding)
    save(figure, "threshold", finding)


def residuals():
    truth, guess = TABLE["y_true"].to_numpy(), TABLE["y_pred"].to_numpy()
    left_over = truth - guess
    rows = np.random.default_rng(42).permutation(len(truth))[:1_500]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    left.plot(guess[rows], left_over[rows], "o", ms=3, alpha=0.4, color=BLUE, mew=0)
    left.axhline(0, color="black", lw=1)
    left.set_xlabel(f"predicted {plain(SETUP['target'])}")
    left.set_ylabel("actual - predicted")
    order = np.argsort(guess, kind="stable")
    spreads = [left_over[part].std() for part in np.array_split(order, 4)]
    ratio = spreads[-1] / max(spreads[0], 1e-12)
    words = "about even" if 0.67 < ratio < 1.5 else f"{ratio:.1f} times as wide at high values" if (
        ratio >= 1) else f"{1 / max(ratio, 1e-9):.1f} times as wide at low values"  # fmt: skip
    left.set_title(f"Errors are {words}")
    place = norm.ppf((np.arange(len(truth)) + 0.5) / len(truth))
    sample = np.sort(left_over)
    keep = np.unique(np.linspace(0, len(truth) - 1, 600).astype(int))
    right.plot(place[keep], sample[keep], "o", ms=3, color=BLUE, mew=0)
    scale = np.subtract(*np.percentile(left_over, [75, 25])) / 1.349
    right.plot(place[keep], np.median(left_over) + scale * place[keep], color=GREY, lw=1)
    right.set_xlabel("quantile of a normal distribution")
    right.set_ylabel("actual - predicted")
    far = np.mean(np.abs(left_over - np.median(left_over)) > 3 * scale)
    right.set_title(f"{far:.1%} of errors beyond 3 sigma (normal: 0.3%)")
    figure.tight_layout()
    save(figure, "residuals", f"Errors are {words}; {far:.1%} lie beyond 3 sigma")


leaderboard()
boosting()
tuning()
if CLASSES is None:
    residuals()
else:
    truth = TABLE["y_true"].map({c: k for k, c in enumerate(CLASSES)}).to_numpy(dtype=int)
    shares = TABLE[[f"proba_{c}" for c in CLASSES]].to_numpy()
    if len(CLASSES) == 2:
        if len(np.unique(truth)) == 2:
            curves(truth, shares[:, 1])
        calibration(shares[:, 1], truth)
        thresholds()
    else:
        calibration(shares.max(axis=1), (shares.argmax(axis=1) == truth).astype(int))
    confusion()
Path("work/figures.json").write_text(json.dumps(DRAWN, indent=2, sort_keys=True), "utf-8")
for name, finding in DRAWN.items():
    print(f"figures/{name}.png: {finding}")

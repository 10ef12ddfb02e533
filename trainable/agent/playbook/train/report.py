"""Write the report and the model card. Working files are cleared away."""

import json
import shutil
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

sys.path[:0] = ["models", "../prep/data"]

# Parameters
INSTRUCTIONS = ""
SEED = 42
# End of parameters


def load(name):
    return json.loads(Path(f"work/{name}.json").read_text("utf-8"))


SETUP, WINNER, TEST, TUNE = load("setup"), load("winner"), load("test"), load("tune")
EXPLAIN, IMBALANCE, DRAWN = load("explain"), load("imbalance"), load("figures")
EXPLAIN["importance"] = dict(sorted(EXPLAIN["importance"].items(), key=lambda pair: -pair[1]))
CEILING = load("candidates")["ceiling"]
PREP = json.loads(Path("../prep/data/metadata.json").read_text("utf-8"))
BOARD = pd.read_csv("data/leaderboard.csv")
CLASSES, METRIC, HEAD = SETUP["classes"], SETUP["metric"], TEST["headline"]
LABEL = {"roc_auc": "ROC-AUC", "log_loss": "log-loss", "rmse": "RMSE", "mae": "MAE", "r2": "R2",
         "pr_auc": "PR-AUC (average precision)", "mcc": "MCC", "f1": "F1", "macro_f1": "macro F1",
         "weighted_f1": "weighted F1", "brier": "Brier score", "mape": "MAPE"}  # fmt: skip
UP = HEAD["metric"] == "roc_auc"


def safe(text, width=60):
    """Return text that can't break a Markdown table."""
    line = " ".join(str(text).split())
    line = line if len(line) <= width else line[: width - 3] + "..."
    for sign in "\\`*_[]<>|#":
        line = line.replace(sign, "\\" + sign)
    return line


def number(value):
    """Return a number with as many digits as a reader can use."""
    if value is None or value != value:
        return "-"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1 else (
        f"{value:.4f}")  # fmt: skip


def label(name):
    return LABEL.get(name, name.replace("_", " "))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]


def figure(name, words):
    """Return the picture with its finding as the text for those who can't see it."""
    if name not in DRAWN:
        return []
    return [f"![{safe(words + ': ' + DRAWN[name], 160)}](figures/{name}.png)", ""]


def outside():
    """Return where the test score lies relative to what validation promised."""
    low, high = HEAD["ci95"]
    if low <= WINNER["val"] <= high:
        return f"The validation score ({number(WINNER['val'])}) lies inside that interval."
    better = (HEAD["value"] > WINNER["val"]) == UP
    return (f"The validation score ({number(WINNER['val'])}) lies outside that interval: the test "
            f"rows are {'easier' if better else 'harder'} than the validation rows.")  # fmt: skip


def gap():
    """Return a sentence on how much better the model does on rows it has learned."""
    if WINNER["train"] is None:
        return ""
    words = f"On its training rows the model scores {number(WINNER['train'])}, "
    words += f"on validation rows {number(WINNER['val'])}"
    wide = METRIC == "roc_auc" and WINNER["train"] - WINNER["val"] > 0.05
    return words + (": it remembers some of its rows, so trust only unseen ones." if wide else ".")


def imbalance_words():
    """Return what was done about rare classes, in a sentence."""
    if CLASSES is None:
        return "does not apply (the target is a number)"
    if not SETUP["imbalanced"]:
        return "none needed (no class is three times as frequent as another)"
    tried = ", ".join(row["name"] for row in IMBALANCE["rows"][1:])
    if IMBALANCE["preferred"] == "LightGBM":
        end = (
            f"decision threshold {WINNER['threshold']:.2f}" if len(CLASSES) == 2 else "as they are"
        )
        return f"compared with {tried} on held-out and validation rows; classes left alone, {end}"
    return (
        f"compared with {tried}; better on held-out and validation rows: {IMBALANCE['preferred']}"
    )


def beats():
    low, high = HEAD["ci95"]
    clear = low > HEAD["baseline"] if UP else high < HEAD["baseline"]
    return ("That is better than guessing beyond chance" if clear else
            "The interval includes guessing, so nothing reliable was learned") + (
        f" (a constant guess scores {number(HEAD['baseline'])}).")  # fmt: skip


def verdict():
    low, high = HEAD["ci95"]
    top = [safe(name, 30) for name, share in list(EXPLAIN["importance"].items())[:3] if share > 0]
    mixed = " + ".join(f"{m['weight']:.0%} {m['name']}" for m in WINNER["members"])
    return [
        f"1. **Test {label(HEAD['metric'])} {number(HEAD['value'])}**, 95 % interval {number(low)} "
        f"to {number(high)}, on {HEAD['rows']:,} test rows, scored once.",
        f"2. {beats()}",
        f"3. Final model: {WINNER['name']}"
        + (f" ({mixed})" if len(WINNER["members"]) > 1 else "")
        + (", refitted on training and validation rows." if TEST["refit"] else "."),
        f"4. {outside()}",
        "5. It leans most on " + (", ".join(top) or "no column in particular")
        + (f"; weakest where {safe(EXPLAIN['weak'][0]['column'], 30)} "
           f"{safe(EXPLAIN['weak'][0]['segment'], 30)}." if EXPLAIN["weak"] else
           "; no segment stands out as weak."),
        "",
    ]  # fmt: skip


def leaderboard():
    extra = [c for c in BOARD if c.startswith("val_") and c not in ("val_low", "val_high")]
    rows = []
    for row in BOARD.to_dict("records"):
        name = f"**{safe(row['model'])}**" if row["chosen"] else safe(row["model"])
        scores = [f"{number(row['val'])} ({number(row['val_low'])} to {number(row['val_high'])})"]
        scores += [number(row["held_out"]), number(row["train"])]
        weight = f"{row['weight']:.2f}" if row["weight"] else "-"
        rows.append([name, *scores, weight, *[number(row[c]) for c in extra]])
    head = ["model", f"validation {label(METRIC)} (95 %)", "held out", "training", "weight"]
    head += [label(c.removeprefix("val_")) for c in extra]
    return [
        "## Leaderboard", "",
        f"{'Higher' if METRIC == 'roc_auc' else 'Lower'} is better. "
        f"{' '.join(WINNER['sentences'])}", "",
        *table(head, rows), *figure("leaderboard", "Scores with intervals"),
        *figure("boosting", "Loss while boosting"), gap(), "",
    ]  # fmt: skip


def tuning():
    change = (TUNE["after"] / TUNE["before"] - 1) * 100 if TUNE["before"] else 0.0
    rows = [[safe(k), number(v)] for k, v in sorted(TUNE["params"].items())]
    return [
        "## Tuning", "",
        f"{TUNE['base']} had the lowest held-out {label(TUNE['loss'])} of the boosters. "
        f"Optuna (TPE, seed {SEED}) tried {TUNE['trials']} settings by {TUNE['how']}, "
        f"{TUNE['pruned']} of them cut short after a fold. Best "
        f"{label(TUNE['loss'])}: {number(TUNE['after'])}, {change:+.1f} % against the first trial. "
        "All trials: `data/trials.csv`.", "",
        *table(["setting", "value"], rows), *figure("tuning", "Loss of each trial"),
    ]  # fmt: skip


def imbalance():
    lines = ["## Imbalance", "", f"Strategy: {imbalance_words()}.", ""]
    if IMBALANCE["rows"]:
        keys = sorted(IMBALANCE["rows"][0]["val"])
        rows = [
            [row["name"], *[number(row["val"].get(k)) for k in keys]] for row in IMBALANCE["rows"]
        ]
        lines += table(["on validation rows", *[label(k) for k in keys]], rows)
        lines += ["Synthetic rows were made from training rows only.", ""]
    return lines


def test():
    rows = [[label(name), number(value), f"{number(TEST['ci95'][name][0])} to "
             f"{number(TEST['ci95'][name][1])}", number(TEST["baseline"].get(name)),
             number(TEST["val_metrics"].get(name))]
            for name, value in TEST["test_metrics"].items()]  # fmt: skip
    lines = ["## Test", "", f"The test rows were scored once, by the final model. Intervals: 1,000 "
             f"resamples of {TEST['resampled']}.", "",
             *table(["metric", "test", "95 % interval", "constant guess", "validation"],
                    rows)]  # fmt: skip
    if TEST["per_class"]:
        known = [[safe(name), part["rows"], number(part["precision"]), number(part["recall"])]
                 for name, part in list(TEST["per_class"].items())[:30]]  # fmt: skip
        lines += table(["class", "rows", "precision", "recall"], known)
    if CLASSES is not None and len(CLASSES) == 2:
        lines += [f"{safe(CLASSES[1])} is predicted from a probability of "
                  f"{WINNER['threshold']:.2f}: there MCC is highest (within 0.01) on held-out "
                  "training and validation rows.", ""]  # fmt: skip
    if TEST["calibration"]:
        lines += [f"Calibration: Brier score {number(TEST['calibration']['brier'])}, expected "
                  f"calibration error {number(TEST['calibration']['ece'])}.", ""]  # fmt: skip
    for name, words in (("roc_pr", "ROC and precision-recall"), ("calibration", "Calibration"),
                        ("confusion", "Confusion matrix"), ("threshold", "Thresholds"),
                        ("residuals", "Residuals")):  # fmt: skip
        lines += figure(name, words)
    return lines


def explanation():
    word = {"roc_auc": "ROC-AUC lost", "log_loss": "log-loss added", "rmse": "RMSE added"}[METRIC]
    rows = [[safe(row["column"]), number(row["drop"]), f"{number(row['low'])} to "
             f"{number(row['high'])}", f"{EXPLAIN['importance'].get(row['column'], 0):.1%}"]
            for row in EXPLAIN["permutation"][:15]]  # fmt: skip
    lines = ["## Explanation", "", "Permutation importance on validation rows, by raw column:", "",
             *table(["column", word, "95 % interval", "share"], rows)]  # fmt: skip
    name, share = max(EXPLAIN["importance"].items(), key=lambda pair: pair[1])
    if share > 0.6 and len(EXPLAIN["importance"]) > 2:
        lines += [f"**{safe(name)} carries {share:.0%} of the importance.** Check that it is known "
                  "before the outcome; otherwise it is a proxy of the target.", ""]  # fmt: skip
    lines += figure("permutation_importance", "Permutation importance")
    scale = " (on the log scale of the target)" if CEILING is not None else ""
    lines += [f"SHAP values are those of {EXPLAIN['shap_model']}{scale}, the best of the boosters "
              "that compute them exactly. They describe the model, not causes.", ""]  # fmt: skip
    return lines + figure("shap_beeswarm", "SHAP values") + figure("shap_dependence", "Dependence")


def errors():
    lines = ["## Errors and weak segments", ""]
    if not EXPLAIN["weak"]:
        return [*lines, f"None of {EXPLAIN['segments']} segments (value ranges, levels, missing) "
                "is predicted clearly worse than the rest.", ""]  # fmt: skip
    rows = [[safe(r["column"]), safe(r["segment"]), r["rows"], number(r["loss"]),
             number(r["loss_elsewhere"]), f"{r['p_adjusted']:.1g}"]
            for r in EXPLAIN["weak"]]  # fmt: skip
    kind = "absolute error" if CLASSES is None else "log-loss"
    lines += [f"Of {EXPLAIN['segments']} segments these are clearly worse than the rest, on "
              "held-out training and validation rows:", "",
              *table(["column", "segment", "rows", f"mean {kind}", "elsewhere", "p, adjusted"],
                     rows)]  # fmt: skip
    return lines + figure("weak_segments", "Weak segments")


def limits():
    rows = SETUP["rows"]
    lines = ["## Limits", ""]
    if HEAD["rows"] < 200:
        lines += [
            f"- Only {HEAD['rows']} test rows: the interval is wide. Read it, not the number."
        ]
    if rows["train"] < 1_000:
        lines += ["- Few rows: another split would give another ranking. The choice rests on "
                  "repeated cross-validation and validation rows together."]  # fmt: skip
    if not SETUP["group"] and not SETUP["forward"]:
        lines += ["- The score holds for rows drawn like these. Rows of another time or place may "
                  "do worse."]  # fmt: skip
    if SETUP["forward"]:
        lines += ["- Test rows are later than training rows; retrain as new rows arrive."]
    lines += ["- The refit model has seen the validation rows: its validation scores come from the "
              "fit on training rows alone."] if TEST["refit"] else []  # fmt: skip
    return [*lines, "- Importance says what the model uses, not what causes the outcome.", ""]


def method():
    how = {"kfold": f"{SETUP['folds']}-fold cross-validation, {SETUP['repeats']} times",
           "holdout": "one fifth of the training rows held out",
           "forward": "later blocks of training rows held out"}[SETUP["scheme"]]  # fmt: skip
    kept = " whole groups stay on one side" if SETUP["group"] else ""
    lines = [
        "## Method", "",
        f"- {SETUP['rows']['train']:,} training and {SETUP['rows']['val']:,} validation rows, "
        f"{len(SETUP['features'])} features from Prep. Held-out scores: {how};{kept}"
        f" seed {SEED}.".replace(";  seed", "; seed").replace("; seed", ", seed"),
        "- Boosters stop by held-out training rows; validation rows are watched, not used.",
        "- The ensemble's weights come from greedy selection on held-out predictions, "
        "averaged over 20 resamples.",
    ]  # fmt: skip
    if CEILING is not None:
        lines += ["- Models learn the log of the target: it is skewed, and errors got smaller."]
    if INSTRUCTIONS:
        lines += [f"- Instructions given: {safe(INSTRUCTIONS, 300)}. The playbook follows only its "
                  "parameters; it can't read wishes."]  # fmt: skip
    return [*lines, "- Versions and times: `run_info.json`.", ""]


def simple(recipe):
    """Return the settings of a model that JSON can hold."""
    found = recipe.get_params()
    skip = ("n_jobs", "verbose", "deterministic", "force_row_wise", "memory")
    return {key: value for key, value in sorted(found.items())
            if isinstance(value, (bool, int, float, str)) and value == value  # no NaN
            and not key.endswith(skip)}  # fmt: skip


def metadata():
    parts = {
        m["name"]: simple(joblib.load(f"work/{m['slug']}.recipe.pkl")) for m in WINNER["members"]
    }
    shares = {m["name"]: m["weight"] for m in WINNER["members"]}
    single = len(parts) == 1
    board = BOARD.astype(object).where(BOARD.notna(), None).to_dict("records")
    return {
        "schema_version": 1, "task": PREP.get("task") or PREP.get("problem_type"),
        "problem": SETUP["problem"], "metric": HEAD["metric"], "headline": HEAD,
        "target_column": SETUP["target"], "classes": CLASSES,
        "best_model": WINNER["members"][0]["name"] if single else WINNER["name"],
        "best_model_params": next(iter(parts.values())) if single else
        {"weights": shares, "members": parts},
        "models_evaluated": WINNER["models"], "leaderboard": board,
        "val_metrics": TEST["val_metrics"], "test_metrics": TEST["test_metrics"],
        "ci95": TEST["ci95"], "baseline": TEST["baseline"], "per_class": TEST["per_class"],
        "train_metrics": {METRIC: WINNER["train"]}, "threshold": WINNER["threshold"]
        if CLASSES is not None and len(CLASSES) == 2 else None,
        "calibration": TEST["calibration"], "test_evaluations": 1, "ledger_id": None,
        "refit_on_train_and_val": TEST["refit"], "log_target": CEILING is not None,
        "feature_importance": EXPLAIN["importance"], "class_imbalance_strategy": imbalance_words(),
        "tuning_method": "optuna", "tuning_trials": TUNE["trials"], "random_seed": SEED,
        "seeds": {"folds": SEED, "models": SEED, "tuning": SEED, "bootstrap": SEED},
        "split_hash": PREP.get("split_hash"), "rows": {**SETUP["rows"], "test": HEAD["rows"]},
    }  # fmt: skip


def card():
    low, high = HEAD["ci95"]
    dropped = [safe(c, 40) for c in (PREP.get("dropped_columns") or {})][:20]
    inputs = [safe(c, 40) for c in EXPLAIN["importance"]][:40]
    kind = "a number" if CLASSES is None else ", ".join(safe(c, 30) for c in CLASSES[:20])
    used = "predicted column by column from a row of the original table"
    return [
        f"# Model card: {safe(SETUP['target'])}", "",
        f"- **Predicts**: {safe(SETUP['target'])} ({kind}), {used}.",
        f"- **Model**: {WINNER['name']}: "
        + " + ".join(f"{m['weight']:.0%} {m['name']}" for m in WINNER["members"]) + ".",
        f"- **Quality**: {label(HEAD['metric'])} {number(HEAD['value'])} ({number(low)} to "
        f"{number(high)}) on {HEAD['rows']:,} test rows, scored once; a constant guess scores "
        f"{number(HEAD['baseline'])}.",
        f"- **Trained on**: {SETUP['rows']['train']:,} rows"
        + (f" and {SETUP['rows']['val']:,} validation rows." if TEST["refit"] else "."),
        "- **Columns it reads**: " + ", ".join(inputs) + ".",
        "- **Columns it ignores**: " + (", ".join(dropped) or "none") + ".",
        "- **Weak where**: " + ("; ".join(f"{safe(r['column'], 30)} {safe(r['segment'], 30)}"
                                          for r in EXPLAIN["weak"][:5]) or "nothing stands out")
        + ".",
        "- **Not for**: rows from another population or time than the training rows; decisions on "
        "people without a human check; claims about causes.", "",
        "## Use it", "", "```", "python models/predict.py new_rows.csv", "```", "",
        "From Python, with `models/` on the path: `joblib.load('models/model.pkl').predict(rows)`.",
        "",
    ]  # fmt: skip


text = [f"# Train report: {safe(SETUP['target'])}", "", *verdict(), *leaderboard(), *tuning(),
        *imbalance(), *test(), *explanation(), *errors(), *limits(), *method()]  # fmt: skip
Path("report.md").write_text("\n".join(text), "utf-8")
Path("model_card.md").write_text("\n".join(card()), "utf-8")
facts = json.dumps(metadata(), indent=2, sort_keys=True, allow_nan=False, default=np.generic.item)
Path("data/metadata.json").write_text(facts, "utf-8")
shutil.rmtree("work")
for line in verdict()[:-1]:
    print(line.replace("**", "").replace("\\", ""))
print("Wrote report.md, model_card.md and data/metadata.json.")

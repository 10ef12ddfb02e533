"""Tune the best booster with Optuna. On training rows only, with fixed trials and seed."""

import inspect
import json
from pathlib import Path

import joblib
import numpy as np
import optuna
import pandas as pd
from lightgbm import LGBMRegressor, early_stopping
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from threadpoolctl import threadpool_limits

from trainable import log

# Parameters
SEED = 42
TRIALS = 30
ROUNDS = 1000
# End of parameters

SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
CANDIDATES = json.loads(Path("work/candidates.json").read_text("utf-8"))
CEILING = CANDIDATES["ceiling"]
DATA = np.load("work/arrays.npz")
X, y, X_val, y_val = (DATA[name] for name in ("X", "y", "X_val", "y_val"))
COUNT = len(y)
CLASSES = len(SETUP["classes"] or [])
TARGET = y if CEILING is None else np.log1p(y)
SAMPLE = 12_000
WIDE = X.shape[1] > 500
COUNT_TRIALS = TRIALS if not WIDE else max(1, TRIALS // 3)  # a trial is slow on many columns
SHARES = (0.02, 0.6) if WIDE else (0.3, 1.0)  # of the columns, for each tree
LOSS = "log_loss" if CLASSES else "rmse"


def error(truth, output):
    """Return the loss to bring down."""
    if not CLASSES:
        return root_mean_squared_error(truth, output)
    return log_loss(truth, output, labels=np.arange(CLASSES))


def main_folds():
    """Yield the folds that all models are judged by."""
    for fold in np.load("work/folds.npy"):
        for part in range(fold.max() + 1):
            fit_on = fold < part if SETUP["scheme"] == "forward" else fold != part
            yield np.flatnonzero(fit_on), np.flatnonzero(fold == part)


def tuning_folds():
    """Return folds of their own for tuning, so that the main ones still judge its result fairly.

    Grouped or dated rows keep the main folds, which respect groups and time.
    """
    rng = np.random.default_rng(SEED + 1)
    if SETUP["group"] or SETUP["forward"]:
        return [(rng.permutation(a)[:SAMPLE], b[:SAMPLE]) for a, b in main_folds()][:5]
    if SETUP["scheme"] == "holdout":
        rows = rng.permutation(np.flatnonzero(np.load("work/folds.npy")[0] != 0))
        return [(rows[:SAMPLE], rows[SAMPLE : SAMPLE + SAMPLE // 2])]
    parts = 4 if COUNT < 1_000 else 3
    order = rng.permutation(COUNT)
    order = order[np.argsort(y[order], kind="stable")] if CLASSES else order
    part = np.empty(COUNT, dtype=int)
    part[order] = np.arange(COUNT) % parts
    return [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(parts)]


def fit_stopping(model, rows, held_out, patience=30):
    """Fit a booster until held-out rows no longer gain; return it, its classes and rounds."""
    model, target, present = clone(model), TARGET, None
    known = held_out
    if CLASSES:
        present = np.unique(y[rows])
        target = np.searchsorted(present, np.where(np.isin(y, present), y, present[0]))
        seen = held_out[np.isin(y[held_out], present)]
        known = seen if len(seen) else held_out
    pair = (X[known], target[known])
    if type(model).__name__.startswith("LGBM"):
        renamed = "eval_X" in inspect.signature(LGBMRegressor.fit).parameters
        watched = {"eval_X": (pair[0],), "eval_y": (pair[1],)} if renamed else {"eval_set": [pair]}
        stop = early_stopping(patience, verbose=False)
        model.fit(X[rows], target[rows], **watched, callbacks=[stop])
        rounds = model.best_iteration_
    else:
        model.set_params(early_stopping_rounds=patience)
        model.fit(X[rows], target[rows], eval_set=[pair], verbose=False)
        rounds = model.best_iteration + 1
    return model, present, rounds


def answer(model, asked, present=None, rounds=None):
    """Return predictions, by the first `rounds` of trees where that is given."""
    stop = {} if rounds is None else {"num_iteration": rounds}
    if rounds is not None and type(model).__name__.startswith("XGB"):
        stop = {"iteration_range": (0, min(rounds, model.get_booster().num_boosted_rounds()))}
    if not CLASSES:
        output = model.predict(asked, **stop)
        return output if CEILING is None else np.expm1(np.minimum(output, CEILING))
    shares = np.zeros((len(asked), CLASSES))
    shares[:, np.arange(CLASSES) if present is None else present] = model.predict_proba(
        asked, **stop
    )
    return shares / shares.sum(axis=1, keepdims=True)


def suggest(trial, slug):
    """Return the settings of one trial."""
    small = COUNT < 2_000
    leaf = int(np.clip(COUNT // 10, 3, 60))
    found = {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.2, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", *SHARES),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.01, 30.0, log=True),
    }
    if slug == "lightgbm":
        top = 31 if small else 63
        found["num_leaves"] = trial.suggest_int("num_leaves", 4, top, log=True)
        found["min_child_samples"] = trial.suggest_int("min_child_samples", 2, leaf, log=True)
    else:
        found["max_depth"] = trial.suggest_int("max_depth", 2, 5 if small else 8)
        found["min_child_weight"] = trial.suggest_float("min_child_weight", 0.5, 20.0, log=True)
    return found


def search(recipe, slug):
    """Run the trials; the first one is the untuned model, so that tuning can't lose to it."""
    folds = tuning_folds()
    best = []

    def objective(trial):
        settings = suggest(trial, slug)
        model = clone(recipe).set_params(n_estimators=ROUNDS, **settings)
        losses = []
        for number, (fit_on, held_out) in enumerate(folds):
            fitted, present, _ = fit_stopping(model, fit_on, held_out, patience=20)
            losses.append(error(y[held_out], answer(fitted, X[held_out], present)))
            trial.report(float(np.mean(losses)), number)
            if number + 1 < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
        loss = float(np.mean(losses))
        best.append(min([loss, *best[-1:]]))
        log(step=trial.number, metrics={"trial_loss": loss, "best_loss": best[-1]}, run="tuning")
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=SEED, n_startup_trials=8),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=6, n_warmup_steps=0),
    )
    asked = suggest(optuna.trial.FixedTrial(_defaults(recipe, slug)), slug)
    study.enqueue_trial(asked)
    study.optimize(objective, n_trials=COUNT_TRIALS)
    return study, len(folds)


def _defaults(recipe, slug):
    now = recipe.get_params()
    keys = ["learning_rate", "subsample", "colsample_bytree", "reg_lambda"]
    keys += ["num_leaves", "min_child_samples"] if slug == "lightgbm" else ["max_depth"]
    found = {key: now[key] for key in keys if now.get(key) is not None}
    return {"reg_lambda": 1.0, "min_child_weight": 2.0, **found}


def save_trials(study):
    """Write every trial to a table."""
    rows = [
        {"trial": t.number, "state": t.state.name.lower(), f"{LOSS}": t.value, **t.params}
        for t in study.trials
    ]
    table = pd.DataFrame(rows)
    table.loc[table["state"] == "pruned", LOSS] = np.nan
    table.round(8).to_csv("data/trials.csv", index=False)
    return table


def keep(model, name, slug):
    """Judge the tuned model by the main folds and store it as the candidates are."""
    total, times = np.zeros((COUNT, CLASSES) if CLASSES else COUNT), np.zeros(COUNT)
    fits = [(held, *fit_stopping(model, fit_on, held)) for fit_on, held in main_folds()]
    rounds = [used for *_, used in fits]
    for number, (held_out, fitted, present, _) in enumerate(fits):
        others = rounds[:number] + rounds[number + 1 :] or rounds
        total[held_out] += answer(fitted, X[held_out], present, max(1, int(np.mean(others))))
        times[held_out] += 1
    total[times == 0] = np.nan
    times = np.maximum(times, 1)
    oof = total / (times[:, None] if CLASSES else times)
    recipe = clone(model).set_params(n_estimators=max(5, int(np.mean(rounds) * 1.1)))
    fitted = clone(recipe).fit(X, TARGET)
    val = answer(fitted, X_val)
    np.save(f"work/oof_{slug}.npy", oof)
    np.save(f"work/val_{slug}.npy", val)
    joblib.dump(recipe, f"work/{slug}.recipe.pkl")
    joblib.dump(fitted, f"work/{slug}.fitted.pkl")
    binary = SETUP["metric"] == "roc_auc" and len(np.unique(y_val)) == 2
    value = roc_auc_score(y_val, val[:, 1]) if binary else error(y_val, val)
    log(step=0, metrics={f"val_{SETUP['metric']}": value}, run=name)
    print(f"{name}: validation {SETUP['metric']} = {value:.4f}.")
    return {"name": name, "slug": slug, "family": "tuned"}


def loss_of(model):
    output = np.load(f"work/oof_{model['slug']}.npy")
    seen = np.isfinite(output.reshape(COUNT, -1)[:, 0])
    return error(y[seen], output[seen])


boosters = [m for m in CANDIDATES["models"] if m["slug"] in ("lightgbm", "xgboost")]
chosen = min(boosters, key=loss_of)
recipe = joblib.load(f"work/{chosen['slug']}.recipe.pkl")
with threadpool_limits(SETUP["threads"]):
    study, fold_count = search(recipe, chosen["slug"])
    table = save_trials(study)
    first, best = table[LOSS].iloc[0], study.best_value
    pruned = int((table["state"] == "pruned").sum())
    sampled = COUNT > SAMPLE and (SETUP["scheme"] != "kfold" or bool(SETUP["group"]))
    how = f"{fold_count}-fold cross-validation" if fold_count > 1 else "one holdout"
    how += f", fitted on {SAMPLE:,} sampled rows" if sampled else ""
    print(f"{chosen['name']} has the lowest held-out {LOSS} of the boosters, so it gets tuned:")
    print(f"{COUNT_TRIALS} trials by {how}, on training rows only; {pruned} were cut short.")
    print(f"{LOSS} {first:.4f} before, {best:.4f} after ({(best / first - 1) * 100:+.1f} %).")
    for key, value in sorted(study.best_params.items()):
        print(f"  {key} = {value:.4g}")
    tuned = clone(recipe).set_params(n_estimators=ROUNDS, **study.best_params)
    entry = keep(tuned, f"{chosen['name']} (tuned)", f"{chosen['slug']}_tuned")
facts = {
    "models": [entry], "base": chosen["name"], "trials": COUNT_TRIALS, "pruned": pruned, "how": how,
    "loss": LOSS, "before": first, "after": best, "params": study.best_params,
}  # fmt: skip
Path("work/tune.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")

"""Train linear models, forests and boosting. Each is judged on rows that it has not seen."""

import inspect
import json
from importlib.util import find_spec
from pathlib import Path

import joblib
import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping, record_evaluation
from sklearn.base import clone
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from trainable import log

# Parameters
SEED = 42
ROUNDS = 1000
TREES = 300
# End of parameters

SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
DATA = np.load("work/arrays.npz")
X, y, X_val, y_val = (DATA[name] for name in ("X", "y", "X_val", "y_val"))
COUNT, WIDTH = X.shape
REGRESSION = SETUP["problem"] == "regression"
CLASSES = 0 if REGRESSION else len(SETUP["classes"])
THREADS = SETUP["threads"]
BIG = COUNT > 20_000
WIDE = WIDTH > 500
SHARE = min(0.7, 300 / WIDTH)  # of the columns, for each tree
LEAF = int(np.clip(COUNT // 40, 2, 20))
RARE = 0 if REGRESSION else int(np.bincount(y).min())
LOSS = "rmse" if REGRESSION else "log_loss"


def folds():
    """Yield (rows to fit on, rows held out), repeat after repeat."""
    for fold in np.load("work/folds.npy"):
        for part in range(fold.max() + 1):
            fit_on = fold < part if SETUP["scheme"] == "forward" else fold != part
            yield np.flatnonzero(fit_on), np.flatnonzero(fold == part)


def forests():
    """Return the two forests: many deep trees, each on its own sample of rows and columns."""
    cells = COUNT * WIDTH
    shared = {
        "n_estimators": TREES if COUNT < 2_000 else TREES * 2 // 3 if cells < 4e5 else TREES // 3,
        "min_samples_leaf": 2 if REGRESSION and BIG else 1 if REGRESSION else 3,
        "max_features": 0.6 if REGRESSION and WIDTH < 200 else "sqrt",
        "bootstrap": True,
        "max_samples": min(0.9999, 20_000 / COUNT) if BIG else None,
        "random_state": SEED,
        "n_jobs": THREADS,
    }
    if REGRESSION:
        return RandomForestRegressor(**shared), ExtraTreesRegressor(**shared)
    return RandomForestClassifier(**shared), ExtraTreesClassifier(**shared)


def histogram():
    """Return scikit-learn's booster; it stops early where there are rows enough to tell."""
    stop = COUNT >= 500 and (REGRESSION or RARE >= 10)
    kind = HistGradientBoostingRegressor if REGRESSION else HistGradientBoostingClassifier
    return kind(
        max_iter=500 if stop else 80,
        learning_rate=0.06,
        max_leaf_nodes=15 if COUNT < 2_000 else 31,
        min_samples_leaf=LEAF,
        l2_regularization=1.0,
        early_stopping=stop,
        validation_fraction=0.15,
        n_iter_no_change=15,
        random_state=SEED,
    )


def light():
    kind = LGBMRegressor if REGRESSION else LGBMClassifier
    return kind(
        n_estimators=ROUNDS,
        learning_rate=0.1 if BIG else 0.05,
        num_leaves=15 if COUNT < 2_000 else 63 if BIG else 31,
        min_child_samples=LEAF,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=SHARE,
        reg_lambda=1.0,
        random_state=SEED,
        n_jobs=THREADS,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )


def extreme():
    """Return XGBoost's booster, or None where it is not installed."""
    if find_spec("xgboost") is None:
        return None
    from xgboost import XGBClassifier, XGBRegressor

    kind = XGBRegressor if REGRESSION else XGBClassifier
    return kind(
        n_estimators=ROUNDS,
        learning_rate=0.1 if BIG else 0.05,
        max_depth=4 if COUNT < 2_000 else 6,
        min_child_weight=2,
        subsample=0.8,
        colsample_bytree=SHARE,
        tree_method="hist",
        random_state=SEED,
        n_jobs=THREADS,
    )


def watch_rows(pairs):
    """Return the argument by which LightGBM takes rows to watch; newer versions renamed it."""
    if "eval_X" not in inspect.signature(LGBMRegressor.fit).parameters:
        return {"eval_set": pairs}
    features, targets = zip(*pairs, strict=True)
    return {"eval_X": features, "eval_y": targets}


def fit_stopping(model, rows, held_out, target):
    """Fit a copy; let a booster stop where held-out rows no longer gain. Return it, and rounds."""
    model = clone(model)
    kind = type(model).__name__
    known = held_out[np.isin(y[held_out], y[rows])] if CLASSES else held_out
    known = known if len(known) else held_out
    if kind.startswith("LGBM"):
        stop = early_stopping(30, verbose=False)
        watched = watch_rows([(X[known], target[known])])
        model.fit(X[rows], target[rows], **watched, callbacks=[stop])
        return model, model.best_iteration_
    if kind.startswith("XGB"):
        model.set_params(early_stopping_rounds=30)
        model.fit(X[rows], target[rows], eval_set=[(X[known], target[known])], verbose=False)
        return model, model.best_iteration + 1
    model.fit(X[rows], target[rows])
    return model, getattr(model, "n_iter_", None) if kind.startswith("Hist") else None


def answer(model, rows, present=None, rounds=None):
    """Return predictions: numbers, or a column of probabilities for each class."""
    stop = {} if rounds is None else {"num_iteration": rounds}
    if rounds is not None and type(model).__name__.startswith("XGB"):
        stop = {"iteration_range": (0, min(rounds, model.get_booster().num_boosted_rounds()))}
    jobs = [name for name in model.get_params() if name.endswith("n_jobs")]
    model.set_params(**dict.fromkeys(jobs, 1))  # threads would add up votes in any order
    if not CLASSES:
        output = model.predict(rows, **stop)
        return output if CEILING is None else np.expm1(np.minimum(output, CEILING))
    shares = np.zeros((len(rows), CLASSES))
    shares[:, np.arange(CLASSES) if present is None else present] = model.predict_proba(
        rows, **stop
    )
    return shares / shares.sum(axis=1, keepdims=True)


def cross_fit(model):
    """Return predictions for held-out training rows (mean over repeats), and rounds of boosting.

    Each part is predicted with the number of rounds that the other parts stopped at, so that
    early stopping doesn't flatter a booster.
    """
    total, times = np.zeros((COUNT, CLASSES) if CLASSES else COUNT), np.zeros(COUNT)
    fits = []
    for fit_on, held_out in folds():
        target, present = scale(y), None
        if CLASSES:  # a fold may lack a rare class; boosters want labels without gaps
            present = np.unique(y[fit_on])
            target = np.searchsorted(present, np.where(np.isin(y, present), y, present[0]))
        fits.append((held_out, present, *fit_stopping(model, fit_on, held_out, target)))
    rounds = [used for *_, used in fits]
    for number, (held_out, present, fitted, used) in enumerate(fits):
        others = rounds[:number] + rounds[number + 1 :] or rounds
        chosen = None if used is None or type(fitted).__name__.startswith("Hist") else max(
            1, int(np.mean(others)))  # fmt: skip
        total[held_out] += answer(fitted, X[held_out], present, chosen)
        times[held_out] += 1
    if type(fits[0][2]).__name__.startswith("Hist"):
        show_histogram(fits[0][2])
    total[times == 0] = np.nan
    times = np.maximum(times, 1)
    return total / (times[:, None] if CLASSES else times), rounds


def show_histogram(fitted):
    """Log the losses that scikit-learn kept while it looked for the place to stop."""
    train, held = -fitted.train_score_, -fitted.validation_score_
    for step in range(0, len(train), max(1, len(train) // 80)):
        pair = {"train_loss": train[step], "val_loss": held[step]} if len(held) else {}
        if pair and REGRESSION:  # it reports half of the squared error
            pair = {name: float(np.sqrt(2 * value)) for name, value in pair.items()}
        if pair:
            log(step=step, metrics=pair, run="HistGradientBoosting")


def scale(values):
    """Return the target as models see it."""
    return values if CEILING is None else np.log1p(values)


def fit_whole(model, name):
    """Fit on every training row, watching (not using) the validation rows."""
    model, target = clone(model), scale(y)
    kind = type(model).__name__
    watch = [(X, target), (X_val, scale(y_val))]
    history = {}
    if kind.startswith("LGBM"):
        record = record_evaluation(history)
        model.fit(X, target, **watch_rows(watch), eval_names=["train", "val"], callbacks=[record])
    elif kind.startswith("XGB"):
        model.fit(X, target, eval_set=watch, verbose=False)
        history = dict(zip(("train", "val"), model.evals_result().values(), strict=True))
    else:
        return model.fit(X, target)
    train, val = (next(iter(history[part].values())) for part in ("train", "val"))
    for step in range(0, len(train), max(1, len(train) // 80)):
        losses = {"train_loss": train[step], "val_loss": val[step]}
        if kind.startswith("LGBM") and REGRESSION:
            losses = {part: float(np.sqrt(value)) for part, value in losses.items()}
        log(step=step, metrics=losses, run=name)
        CURVES.setdefault(name, []).append([step, losses["train_loss"], losses["val_loss"]])
    return model


def settle(model, rounds):
    """Return the model with the number of rounds that the folds agreed on."""
    kind = type(model).__name__
    if rounds[0] is None:
        return model
    count = max(5, int(np.mean(rounds) * 1.1))
    if kind.startswith("Hist"):
        return clone(model).set_params(max_iter=count, early_stopping=False)
    return clone(model).set_params(n_estimators=count)


def error(truth, output):
    """Return the loss that models are tuned by."""
    if REGRESSION:
        return root_mean_squared_error(truth, output)
    return log_loss(truth, output, labels=np.arange(CLASSES))


def headline(truth, output):
    if SETUP["problem"] == "binary" and len(np.unique(truth)) == 2:
        return roc_auc_score(truth, output[:, 1])
    return error(truth, output)


def held_out_error(output):
    seen = np.isfinite(output.reshape(COUNT, -1)[:, 0])
    return error(y[seen], output[seen])


def best_linear():
    """Return the linear model whose penalty does best on held-out training rows."""
    if REGRESSION:
        grid = [make_pipeline(StandardScaler(), Ridge(alpha=a)) for a in (0.1, 1, 10, 100, 1000)]
    else:
        grid = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5_000, tol=1e-3))
            for c in ((0.003, 0.3) if WIDE else (0.003, 0.03, 0.3, 3))
        ]
    return grid[int(np.argmin([held_out_error(cross_fit(model)[0]) for model in grid]))]


def keep(name, slug, family, model):
    """Judge one model; store its predictions, its recipe, and the model fitted on all rows."""
    held_out, rounds = cross_fit(model)
    recipe = settle(model, rounds)
    fitted = fit_whole(recipe, name)
    output = answer(fitted, X_val)
    np.save(f"work/oof_{slug}.npy", held_out)
    np.save(f"work/val_{slug}.npy", output)
    joblib.dump(recipe, f"work/{slug}.recipe.pkl")
    joblib.dump(fitted, f"work/{slug}.fitted.pkl")
    value, seen = headline(y_val, output), np.isfinite(held_out.reshape(COUNT, -1)[:, 0])
    log(step=0, metrics={f"val_{SETUP['metric']}": value}, run=name)
    used = f"{recipe.get_params().get('n_estimators', recipe.get_params().get('max_iter', ''))}"
    extra = f"   ({used} trees)" if used else ""
    print(f"{name:22} {headline(y[seen], held_out[seen]):10.4f} {value:12.4f}{extra}")
    ENTRIES.append({"name": name, "slug": slug, "family": family})


def decide_scale():
    """Return the highest log that makes sense where errors shrink on a log scale, else None."""
    global CEILING
    skew = 0.0 if not REGRESSION else float(np.mean(((y - y.mean()) / (y.std() or 1)) ** 3))
    if not REGRESSION or y.min() < 0 or skew < 1:
        return None
    plain = held_out_error(cross_fit(light())[0])
    CEILING = float(np.log1p(y.max())) + 0.5
    logged = held_out_error(cross_fit(light())[0])
    better = logged < plain
    print(f"The target is skewed ({skew:.1f}). Held-out rmse of LightGBM: {plain:.4g} as it is,")
    print(f"{logged:.4g} on a log scale, so models learn {'the log' if better else 'it as it is'}.")
    return CEILING if better else None


CEILING = None
ENTRIES = []
CURVES = {}
with threadpool_limits(THREADS):
    CEILING = decide_scale()
    print(f"{SETUP['metric']:22} {'held out':>10} {'validation':>12}")
    keep("Ridge" if REGRESSION else "LogisticRegression", "linear", "linear", best_linear())
    forest, extra_trees = forests()
    keep("RandomForest", "random_forest", "forest", forest)
    keep("ExtraTrees", "extra_trees", "forest", extra_trees)
    if WIDE:
        print(f"HistGradientBoosting is left out: it is slow on {WIDTH:,} columns.")
    else:
        keep("HistGradientBoosting", "hist_boosting", "boosting", histogram())
    keep("LightGBM", "lightgbm", "boosting", light())
    booster = extreme()
    if booster is None:
        print("XGBoost is not installed, so it is left out.")
    else:
        keep("XGBoost", "xgboost", "boosting", booster)
facts = {"models": ENTRIES, "ceiling": CEILING, "curves": CURVES}
Path("work/candidates.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")

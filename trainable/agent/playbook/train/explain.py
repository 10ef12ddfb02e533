"""Measure what the model relies on. Permutation, SHAP, and rows on which it is weak."""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, norm
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from threadpoolctl import threadpool_limits

sys.path[:0] = ["models", "../prep/data"]

# Parameters
SEED = 42
REPEATS = 10
ROWS = 600
COLUMNS = 40
# End of parameters

PREP = Path("../prep/data")
SETUP = json.loads(Path("work/setup.json").read_text("utf-8"))
METADATA = json.loads((PREP / "metadata.json").read_text("utf-8"))
CLASSES = SETUP["classes"]
NAMES = SETUP["features"]
DATA = np.load("work/arrays.npz")
X_val, y_val = DATA["X_val"], DATA["y_val"]


def source_of(feature):
    """Return the raw column that a feature comes from, as far as Prep's map says."""
    entry = (METADATA.get("feature_map") or {}).get(feature)
    if isinstance(entry, dict):
        entry = entry.get("source") or entry.get("source_column") or entry.get("sources")
    if isinstance(entry, list):
        entry = entry[0] if entry else None
    return entry if isinstance(entry, str) else feature


def headline(truth, output):
    """Return the headline metric, turned so that more is better."""
    if CLASSES is None:
        return -root_mean_squared_error(truth, output)
    if SETUP["metric"] == "roc_auc" and len(np.unique(truth)) == 2:
        return roc_auc_score(truth, output[:, 1])
    return -log_loss(truth, output, labels=np.arange(len(CLASSES)))


def shap_model():
    """Return (name, fitted booster) of the best LightGBM or XGBoost on held-out rows."""
    found = []
    for step in ("candidates", "tune"):
        for model in json.loads(Path(f"work/{step}.json").read_text("utf-8"))["models"]:
            if model["slug"].startswith(("lightgbm", "xgboost")):
                output = np.load(f"work/oof_{model['slug']}.npy")
                seen = np.isfinite(output.reshape(len(output), -1)[:, 0])
                found.append((headline(DATA["y"][seen], output[seen]), model))
    best = max(found, key=lambda pair: pair[0])[1]
    return best["name"], joblib.load(f"work/{best['slug']}.fitted.pkl")


def shap_values(model, rows):
    """Return exact SHAP values as (rows, outputs, features): boosters compute them themselves."""
    if type(model).__name__.startswith("LGBM"):
        values = np.asarray(model.predict(rows, pred_contrib=True))
    else:
        from xgboost import DMatrix

        values = model.get_booster().predict(DMatrix(rows), pred_contribs=True)
    return values.reshape(len(rows), -1, rows.shape[1] + 1)[:, :, :-1]


def show_shap():
    """Store SHAP values of a sample; return the mean effect of each feature."""
    name, model = shap_model()
    rng = np.random.default_rng(SEED)
    pool = np.concatenate([X_val, DATA["X"]])
    rows = pool[np.sort(rng.permutation(len(pool))[:500])]
    values = shap_values(model, rows)
    shown = 0 if values.shape[1] == 1 else int(np.bincount(DATA["y"]).argmax())
    effect = np.abs(values).mean(axis=0).sum(axis=0)
    np.savez("work/shap.npz", values=values[:, shown], rows=rows, effect=effect)
    return name, effect, (None if values.shape[1] == 1 else str(CLASSES[shown]))


def permute(model, sources, effect):
    """Return the loss of quality when a raw column's features are shuffled, with intervals.

    Each repeat draws its rows anew, so that the interval holds chance of rows and of shuffling.
    """
    rng = np.random.default_rng(SEED)
    output_of = model.predict if CLASSES is None else model.predict_proba
    columns = sorted(set(sources), key=lambda s: -effect[np.array(sources) == s].sum())[:COLUMNS]
    draws = [rng.integers(0, len(y_val), min(len(y_val), ROWS)) for _ in range(REPEATS)]
    shuffles = [rng.permutation(len(draws[0])) for _ in range(REPEATS)]
    whole = output_of(X_val)
    base = [headline(y_val[rows], whole[rows]) for rows in draws]
    found = []
    for column in columns:
        places = np.flatnonzero(np.array(sources) == column)
        blocks = []
        for rows, shuffle in zip(draws, shuffles, strict=True):
            block = X_val[rows].copy()
            block[:, places] = block[shuffle][:, places]
            blocks.append(block)
        output = np.split(output_of(np.concatenate(blocks)), REPEATS)
        drops = [b - headline(y_val[rows], out)
                 for b, rows, out in zip(base, draws, output, strict=True)]  # fmt: skip
        mean, spread = float(np.mean(drops)), 1.96 * float(np.std(drops, ddof=1))
        found.append({"column": column, "drop": mean, "low": mean - spread, "high": mean + spread})
    return sorted(found, key=lambda row: -row["drop"])


def raw_rows(sources):
    """Return raw columns for training and validation rows, or prepared ones without raw data."""
    order = np.r_[np.arange(len(DATA["y"])), DATA["val_rows"]]
    split = np.r_[np.zeros(len(DATA["y"]), dtype=int), np.ones(len(DATA["val_rows"]), dtype=int)]
    folder = os.environ.get("TRAINABLE_DATASET")
    readable = folder and (Path(folder) / "raw.parquet").exists()
    if not readable or not (PREP / "splits.parquet").exists():
        return pd.DataFrame(np.concatenate([DATA["X"], X_val]), columns=pd.Index(NAMES))
    from trainable import read_raw

    table = pd.read_parquet(PREP / "splits.parquet")
    ids = []
    for number, name in enumerate(("train", "val")):
        rows = table[table["split"] == name].set_index("position")["row_id"]
        ids.append(rows.reindex(order[split == number]).to_numpy())
    raw = read_raw()
    kept = [c for c in raw.columns if c in set(sources) and c != SETUP["target"]]
    ids = np.concatenate(ids)
    if np.isnan(ids.astype(float)).any() or (ids < 0).any():  # synthetic rows have no raw row
        return pd.DataFrame(np.concatenate([DATA["X"], X_val]), columns=pd.Index(NAMES))
    return raw[kept].iloc[ids.astype(int)].reset_index(drop=True)


def segments_of(column):
    """Yield (words, mask) for the parts of one column: value ranges, levels, missing."""
    gone = column.isna().to_numpy()
    if gone.any():
        yield "is missing", gone
    if pd.api.types.is_bool_dtype(column) or column.nunique() <= 6 or not (
        pd.api.types.is_numeric_dtype(column)
    ):  # fmt: skip
        if column.nunique() > 200:
            return
        text = column.astype(str)
        for level in text[~gone].value_counts().index[:8]:
            yield f"= {level}", (text == level).to_numpy() & ~gone
        return
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    edges = np.unique(np.nanquantile(values[np.isfinite(values)], [0, 0.25, 0.5, 0.75, 1]))
    for low, high in pairwise(edges):
        top = high == edges[-1]
        inside = (values >= low) & ((values <= high) if top else (values < high))
        yield f"from {low:.4g} to {high:.4g}" + ("" if top else " (excluded)"), inside


def weak_segments(sources):
    """Return segments whose rows are predicted worse than the rest, most certain first."""
    output = np.concatenate([np.load("work/oof_final.npy"), np.load("work/val_final.npy")])
    truth = np.r_[DATA["y"], y_val]
    seen = np.isfinite(output.reshape(len(output), -1)[:, 0])
    if CLASSES is None:
        loss = np.abs(output - truth)
    else:
        chance = np.where(seen, output[np.arange(len(truth)), truth], 1.0)
        loss = -np.log(np.clip(chance, 1e-6, 1))
    raw, found = raw_rows(sources), []
    for name in raw.columns[:60]:
        for words, mask in segments_of(raw[name]):
            inside, outside = loss[seen & mask], loss[seen & ~mask]
            if len(inside) < max(20, 0.02 * seen.sum()) or len(outside) < 20:
                continue
            error = np.sqrt(inside.var() / len(inside) + outside.var() / len(outside))
            z = (inside.mean() - outside.mean()) / max(error, 1e-12)
            found.append({"column": str(name), "segment": words, "rows": len(inside),
                          "loss": inside.mean(), "loss_elsewhere": outside.mean(),
                          "p": float(norm.sf(z))})  # fmt: skip
    columns = ["column", "segment", "rows", "loss", "loss_elsewhere", "p", "p_adjusted"]
    table = pd.DataFrame(found, columns=columns[:-1])
    table["p_adjusted"] = false_discovery_control(table["p"]) if len(table) else []
    table = table.sort_values(["p", "column", "segment"]).round(8)
    table.to_csv("data/segments.csv", index=False)
    weak = table[(table["p_adjusted"] < 0.01) & (table["loss"] > 1.25 * table["loss_elsewhere"])]
    return weak.head(8).to_dict("records"), len(table)


def shares_of(rows, sources, effect):
    """Return each raw column's share of the importance, in order."""
    gains = {row["column"]: max(row["drop"], 0.0) for row in rows}
    if sum(gains.values()) <= 0:
        gains = {row["column"]: float(effect[np.array(sources) == row["column"]].sum())
                 for row in rows}  # fmt: skip
    total = sum(gains.values()) or 1.0
    return {name: round(gain / total, 6) for name, gain in gains.items()}


sources = [source_of(name) for name in NAMES]
with threadpool_limits(SETUP["threads"]):
    shap_name, effect, shap_class = show_shap()
    rows = permute(joblib.load("work/final.train.pkl"), sources, effect)
importance = shares_of(rows, sources, effect)
weak, tried = weak_segments(sources)
facts = {"permutation": rows, "importance": importance, "weak": weak, "segments": tried,
         "shap_model": shap_name, "shap_class": shap_class,
         "columns": len(set(sources))}  # fmt: skip
Path("work/explain.json").write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")

word = {"roc_auc": "AUC lost", "log_loss": "log-loss added", "rmse": "rmse added"}
print(f"Shuffling a column of the validation rows costs ({word[SETUP['metric']]}, 95 % interval):")
for row in rows[:8]:
    print(f"  {row['column'][:40]:40} {row['drop']:9.4f}   {row['low']:.4f} to {row['high']:.4f}")
top, share = max(importance.items(), key=lambda pair: pair[1])
if share > 0.6 and len(importance) > 2:
    print(f"{top[:60]!r} alone carries {share:.0%} of the importance. Is it known in advance?")
if weak:
    print(f"{len(weak)} of {tried} segments are predicted clearly worse than the rest:")
    for row in weak[:5]:
        print(f"  {row['column'][:30]} {row['segment'][:40]}: loss {row['loss']:.3g}, "
              f"elsewhere {row['loss_elsewhere']:.3g} ({row['rows']} rows)")  # fmt: skip
else:
    print(f"None of {tried} segments is predicted clearly worse than the rest.")

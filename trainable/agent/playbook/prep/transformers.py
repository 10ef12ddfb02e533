"""Write down the steps of the pipeline. They lead from a raw row to numbers.

`prep_pipeline.pkl` needs this file beside it, and nothing but numpy, pandas and scikit-learn.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder

NOISE = re.compile(r"[\s$€£%]")
REFUSED = re.compile(r'[\[\]{}":,<>\x00-\x1f\x7f]+')  # LightGBM and XGBoost refuse these in names
PARTS = {"year": "year", "month": "month", "day": "day", "weekday": "day_of_week", "hour": "hour"}


def to_text(column: pd.Series, nulls: tuple[str, ...] = ()) -> pd.Series:
    """Return cells as trimmed text; 3 and 3.0 are the same, blanks and `nulls` are missing."""
    try:
        codes, found = pd.factorize(column)
    except TypeError:  # lists and the like
        codes, found = pd.factorize(column.map(str, na_action="ignore"))
    texts = np.array([*(_cell_text(value, nulls) for value in found), None], dtype=object)
    return pd.Series(texts[codes], index=column.index, dtype=object)


def to_numbers(column: pd.Series, decimal_comma: bool = False) -> pd.Series:
    """Return cells as floats; what is no finite number is missing."""
    if pd.api.types.is_timedelta64_dtype(column):
        numbers = column.dt.total_seconds()
    elif pd.api.types.is_numeric_dtype(column):
        numbers = column.astype("float64")
    else:
        codes, found = pd.factorize(to_text(column))
        plain = [_number(text, decimal_comma) for text in found]
        numbers = pd.Series(np.array([*plain, np.nan])[codes], index=column.index)
    return numbers.where(np.isfinite(numbers.to_numpy(dtype="float64", na_value=np.nan)))


def to_times(column: pd.Series, form: str | None = None) -> pd.Series:
    """Return cells as time stamps in UTC; what is no date is missing."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        codes, found = pd.factorize(to_text(column))
        parsed = pd.to_datetime(pd.Series(found), format=form or "mixed", errors="coerce", utc=True)
        stamps = parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
        stamps = np.append(stamps, np.datetime64("NaT", "us"))
        return pd.Series(stamps[codes], index=column.index)
    plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz else column
    return plain.dt.as_unit("us")


def _cell_text(value: Any, nulls: tuple[str, ...]) -> str | None:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return None if not text or text in nulls else text


def _number(text: str, decimal_comma: bool) -> float:
    plain = {"true": "1", "false": "0"}.get(text.lower(), NOISE.sub("", text))
    if decimal_comma:
        plain = plain.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", plain):
        plain = plain.replace(",", "")
    try:
        return float(plain)
    except ValueError:
        return np.nan


class _Block(TransformerMixin, BaseEstimator):
    """Shared by the blocks below: names of what comes out, and where each comes from."""

    origins_: list[tuple[str, list[str], str]]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        return np.array([name for name, _, _ in self.origins_], dtype=object)

    def _frame(self, columns: list[Any], like: pd.DataFrame) -> pd.DataFrame:
        table = np.column_stack([np.empty((len(like), 0)), *columns])
        return pd.DataFrame(table, index=like.index, columns=self.get_feature_names_out())


class RawColumns(_Block):
    """Picks the columns of a raw frame and reads each as number, text or time, row by row."""

    def __init__(self, columns: list[dict[str, Any]]) -> None:
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: Any = None) -> RawColumns:
        self.origins_ = [(how["name"], [how["name"]], how["kind"]) for how in self.columns]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        if not isinstance(X, pd.DataFrame):
            raise ValueError("Give the raw rows as a DataFrame with the columns of the dataset.")
        missing = [how["name"] for how in self.columns if how["name"] not in X.columns]
        if missing:
            raise ValueError(f"These columns are missing: {', '.join(map(repr, missing))}.")
        return pd.DataFrame({c["name"]: self._read(X[c["name"]], c) for c in self.columns})

    def _read(self, column: pd.Series, how: dict[str, Any]) -> pd.Series:
        nulls = tuple(how.get("nulls", ()))
        if how["kind"] == "date":
            return to_times(column, how.get("format"))
        if how["kind"] != "number":
            return to_text(column, nulls)
        if nulls and not pd.api.types.is_numeric_dtype(column):
            column = to_text(column, nulls)
        numbers = to_numbers(column, how.get("comma", False))
        return numbers.mask(numbers.isin(how.get("sentinels", [])))


class Numbers(_Block):
    """Fills gaps with the median; adds the logarithm or a missing flag where that was decided."""

    def __init__(self, logs: list[str], flags: list[str]) -> None:
        self.logs = logs
        self.flags = flags

    def fit(self, X: pd.DataFrame, y: Any = None) -> Numbers:
        self.medians_ = {name: _median(X[name]) for name in X.columns}
        self.origins_ = [
            (f"{name}_log", [name], "log1p of the size, sign kept; median where missing")
            if name in self.logs
            else (name, [name], "median where missing")
            for name in X.columns
        ]
        self.origins_ += [(f"{n}_missing", [n], "1 where missing") for n in self.flags]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        columns = []
        for name in X.columns:
            values = X[name].fillna(self.medians_[name]).to_numpy(dtype="float64")
            logged = np.sign(values) * np.log1p(np.abs(values))
            columns.append(logged if name in self.logs else values)
        columns += [X[name].isna().to_numpy(dtype="float64") for name in self.flags]
        return self._frame(columns, X)


class Levels(_Block):
    """One 0/1 column a level (one for two levels); an unseen level is 0 in all of them."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Levels:
        self.levels_: dict[str, list[str | None]] = {}
        self.usual_: dict[str, str] = {}
        self.origins_ = []
        for name in X.columns:
            counts = X[name].value_counts()
            levels: list[str | None] = sorted(counts.index)
            self.usual_[name] = min(levels, key=lambda level: -counts[level], default="")
            if X[name].isna().any():
                levels.append(None)
            self.levels_[name] = levels[1:] if len(levels) == 2 else levels
            for level in self.levels_[name]:
                label = f"{name}_missing" if level is None else f"{name}={level[:60]}"
                self.origins_.append((label, [name], "1 where it holds"))
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        columns = []
        for name, levels in self.levels_.items():
            knows_missing = None in levels
            values = X[name] if knows_missing else X[name].fillna(self.usual_[name])
            values = values.to_numpy(dtype=object)
            gone = pd.isna(values)
            for level in levels:
                holds = gone if level is None else (values == level) & ~gone
                columns.append(holds.astype("float64"))
        return self._frame(columns, X)


class TargetMeans(_Block):
    """Mean target (shrunk; cross-fitted on the train rows) and share of rows of each level."""

    def __init__(self, task: str, shares: list[str], seed: int = 42) -> None:
        self.task = task
        self.shares = shares
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: Any) -> TargetMeans:
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: pd.DataFrame, y: Any = None, **_: Any) -> pd.DataFrame:
        """Learn, and encode each row by what the other folds show."""
        self.levels_ = {name: sorted(X[name].dropna().unique()) for name in X.columns}
        codes, self.portions_ = self._codes(X), {}
        for column, (name, levels) in zip(codes.T, self.levels_.items(), strict=True):
            self.portions_[name] = np.bincount(column, minlength=len(levels) + 2) / len(X)
        labels, kind = self._labels(y)
        self.encoder_ = self._encoder(labels, kind)
        means = self.encoder_.fit_transform(codes, labels)
        self._name_outputs(list(X.columns), kind)
        return self._with_shares(means, codes, X)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        codes = self._codes(X)
        means = self.encoder_.transform(codes) if len(X) else np.empty((0, self.width_))
        return self._with_shares(means, codes, X)

    def _codes(self, X: pd.DataFrame) -> np.ndarray:
        """0 is missing, 1 is unseen, then the levels."""
        codes = np.empty(X.shape, dtype="int64")
        for position, (name, levels) in enumerate(self.levels_.items()):
            found = pd.Index(levels, dtype=object).get_indexer(X[name].astype(object)) + 2
            codes[:, position] = np.where(X[name].isna(), 0, found)
        return codes

    def _labels(self, y: Any) -> tuple[np.ndarray, str]:
        if self.task == "regression":
            return np.asarray(y, dtype="float64"), "continuous"
        codes, self.classes_ = pd.factorize(pd.Series(np.asarray(y)).map(str), sort=True)
        return codes, "binary" if len(self.classes_) == 2 else "multiclass"

    def _encoder(self, labels: np.ndarray, kind: str) -> TargetEncoder:
        folds = min(5, len(labels))
        if TargetEncoder().get_params()["random_state"] != "deprecated":  # before 1.9
            return TargetEncoder(target_type=kind, cv=folds, random_state=self.seed)
        plenty = kind != "continuous" and np.bincount(labels).min() >= folds
        splitter = StratifiedKFold if plenty else KFold
        cv = splitter(folds, shuffle=True, random_state=self.seed)
        return TargetEncoder(target_type=kind, cv=cv)

    def _name_outputs(self, names: list[str], kind: str) -> None:
        how = "mean target of the level, cross-fitted on train"
        suffixes = ["_target_mean"]
        if kind == "multiclass":
            suffixes = [f"_share_of_{str(label)[:40]}" for label in self.classes_]
        self.origins_ = [(f"{n}{suffix}", [n], how) for n in names for suffix in suffixes]
        self.width_ = len(self.origins_)
        self.origins_ += [(f"{n}_frequency", [n], "share of train rows") for n in self.shares]

    def _with_shares(self, means: np.ndarray, codes: np.ndarray, X: pd.DataFrame) -> pd.DataFrame:
        names = list(self.levels_)
        extra = [self.portions_[name][codes[:, names.index(name)]] for name in self.shares]
        return self._frame([np.asarray(means), *extra], X)


class Dates(_Block):
    """Parts of each date, days since the first train row, and minutes between two columns."""

    def __init__(self, flags: list[str], pairs: list[tuple[str, str]]) -> None:
        self.flags = flags
        self.pairs = pairs

    def fit(self, X: pd.DataFrame, y: Any = None) -> Dates:
        seconds = {name: _seconds(X[name]) for name in X.columns}
        self.medians_ = {name: _median(values) for name, values in seconds.items()}
        self.starts_ = {n: float(v.min()) if v.notna().any() else 0.0 for n, v in seconds.items()}
        gaps = {pair: seconds[pair[1]] - seconds[pair[0]] for pair in self.pairs}
        self.gaps_ = [_median(gap) for gap in gaps.values()]
        self.origins_ = []
        for name in X.columns:
            self.origins_ += [(f"{name}_{part}", [name], part) for part in PARTS]
            self.origins_.append((f"{name}_days", [name], "days since the first train row"))
        self.origins_ += [(f"{name}_missing", [name], "1 where missing") for name in self.flags]
        for first, last in self.pairs:
            name = f"{first}_to_{last}_minutes"
            self.origins_.append((name, [first, last], "minutes between the two"))
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        columns: list[Any] = []
        seconds = {name: _seconds(X[name]) for name in X.columns}
        for name in X.columns:
            filled = seconds[name].fillna(self.medians_[name])
            dates = (filled * 1e6).round().astype("int64").astype("datetime64[us]").dt
            columns += [getattr(dates, p).to_numpy(dtype="float64") for p in PARTS.values()]
            columns.append(((filled - self.starts_[name]) / 86_400).to_numpy())
        columns += [X[name].isna().to_numpy(dtype="float64") for name in self.flags]
        for (first, last), usual in zip(self.pairs, self.gaps_, strict=True):
            columns.append(((seconds[last] - seconds[first]).fillna(usual) / 60).to_numpy())
        return self._frame(columns, X)


class Words(_Block):
    """TF-IDF of the most frequent words of each text, its length and its number of words."""

    def __init__(self, limit: int = 50) -> None:
        self.limit = limit

    def fit(self, X: pd.DataFrame, y: Any = None) -> Words:
        self.readers_: dict[str, TfidfVectorizer | None] = {}
        self.origins_ = []
        for name in X.columns:
            reader = TfidfVectorizer(
                token_pattern=r"\w+", max_features=self.limit, min_df=2, max_df=0.95
            )
            try:
                reader.fit(X[name].fillna(""))
            except ValueError:  # no word is in two rows
                reader = None
            self.readers_[name] = reader
            words = [] if reader is None else reader.get_feature_names_out()
            self.origins_ += [(f"{name}~{word[:40]}", [name], "TF-IDF") for word in words]
            self.origins_ += [(f"{name}_{size}", [name], size) for size in ("length", "words")]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        columns: list[Any] = []
        for name, reader in self.readers_.items():
            text = X[name].fillna("").astype(str)
            if reader is not None:
                empty = np.empty((0, len(reader.vocabulary_)))
                columns.append(reader.transform(text).toarray() if len(X) else empty)
            columns.append(text.str.len().to_numpy(dtype="float64"))
            columns.append(text.str.split().str.len().to_numpy(dtype="float64"))
        return self._frame(columns, X)


class Features(_Block):
    """Scales all but 0/1 columns, gives plain unique names, drops what never varies in train."""

    def __init__(self, reserved: list[str]) -> None:
        self.reserved = reserved

    def fit(self, X: pd.DataFrame, y: Any = None) -> Features:
        values = X.to_numpy(dtype="float64")
        low, high = values.min(axis=0), values.max(axis=0)
        seen: dict[bytes, int] = {}
        twins = [seen.setdefault(column.tobytes(), i) for i, column in enumerate(values.T)]
        self.same_as_ = {i: twin for i, twin in enumerate(twins) if twin != i}
        self.constant_ = np.flatnonzero(high - low <= 1e-12 * np.maximum(np.abs(high), 1)).tolist()
        out = {*self.same_as_, *self.constant_}
        self.kept_ = [i for i in range(values.shape[1]) if i not in out]
        binary = ((values == 0) | (values == 1)).all(axis=0)
        means, spreads = values.mean(axis=0), values.std(axis=0)
        self.means_ = np.where(binary, 0.0, means)[self.kept_]
        self.spreads_ = np.where(binary, 1.0, spreads)[self.kept_]
        self.names_ = self._plain_names([X.columns[i] for i in self.kept_])
        self.origins_ = [(name, [], "scaled") for name in self.names_]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        values = X.to_numpy(dtype="float64")[:, self.kept_]
        return self._frame([(values - self.means_) / self.spreads_], X)

    def _plain_names(self, names: list[str]) -> list[str]:
        taken, plain = {*self.reserved}, []
        for name in names:
            wish = REFUSED.sub("_", name.split("__", 1)[1]).strip() or "column"
            unique, number = wish, 1
            while unique in taken:
                number += 1
                unique = f"{wish} ({number})"
            taken.add(unique)
            plain.append(unique)
        return plain


def _median(values: pd.Series) -> float:
    return float(values.median()) if values.notna().any() else 0.0


def _seconds(dates: pd.Series) -> pd.Series:
    stamps = pd.Series(dates.to_numpy(dtype="datetime64[us]").astype("int64"), index=dates.index)
    return (stamps / 1e6).where(dates.notna())


def build_pipeline(plan: dict[str, Any]) -> Pipeline:
    """Return the unfitted pipeline that a plan describes."""
    blocks: list[tuple[str, Any, list[str]]] = []
    for kind, make in (
        ("number", lambda of: Numbers([c["name"] for c in of if c.get("log")], _flags(of))),
        ("level", lambda of: Levels()),
        ("rich", lambda of: TargetMeans(plan["task"], [c["name"] for c in of if c.get("share")])),
        ("date", lambda of: Dates(_flags(of), [tuple(pair) for pair in plan["date_pairs"]])),
        ("text", lambda of: Words(plan["words_per_text"])),
    ):
        members = [column for column in plan["columns"] if kind in column["blocks"]]
        if members:
            blocks.append((kind, make(members), [column["name"] for column in members]))
    steps = [
        ("columns", RawColumns(plan["columns"])),
        ("blocks", ColumnTransformer(blocks, sparse_threshold=0.0)),
        ("features", Features([plan["target"]])),
    ]
    return Pipeline(steps).set_output(transform="pandas")


def _flags(columns: list[dict[str, Any]]) -> list[str]:
    return [column["name"] for column in columns if column.get("flag")]


if __name__ == "__main__":
    Path("data").mkdir(exist_ok=True)
    Path("data/prep_pipeline.py").write_text(Path(__file__).read_text("utf-8"), "utf-8")
    print("Wrote data/prep_pipeline.py: raw columns to numbers, fitted on train rows only.")

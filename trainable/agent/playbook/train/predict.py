"""Turn new rows into predictions: `python predict.py new_rows.csv`.

The file holds the class that `model.pkl` is made of, so it has to stay beside `model.pkl`.
As a step of the stage, it only puts a copy of itself there.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metaestimators import available_if

HERE = Path(__file__).resolve().parent


class Blend(BaseEstimator):
    """A weighted average of models; with one member, just that model.

    `classes` are the labels to predict, None for a number. With two classes, the second one is
    predicted where its probability reaches `threshold`. With a `ceiling`, members learn the log
    of a number, and their answers are cut off at that height.
    """

    def __init__(
        self,
        members: list[Any],
        weights: list[float],
        classes: list[Any] | None = None,
        threshold: float = 0.5,
        ceiling: float | None = None,
    ) -> None:
        self.members = members
        self.weights = weights
        self.classes = classes
        self.threshold = threshold
        self.ceiling = ceiling

    def fit(self, X: Any, y: Any) -> "Blend":
        """Fit every member on features `X` and labels `y`."""
        known = self._codes(y) if self.classes is not None else np.asarray(y, dtype=float)
        known = known if self.ceiling is None else np.log1p(known)
        return self.take([clone(member).fit(_numbers(X), known) for member in self.members])

    def take(self, fitted: list[Any]) -> "Blend":
        """Use members that have been fitted already, on codes 0, 1, ... in place of labels."""
        for member in fitted:  # several threads would add up a forest's votes in any order
            jobs = [name for name in member.get_params() if name.endswith("n_jobs")]
            member.set_params(**dict.fromkeys(jobs, 1))
        self.fitted_ = fitted
        if self.classes is not None:
            self.classes_ = np.array(self.classes, dtype=_label_type(self.classes))
        return self

    def _average(self, outputs: list[Any]) -> Any:
        pairs = zip(self.weights, outputs, strict=True)
        return sum(weight * np.asarray(output, dtype=np.float64) for weight, output in pairs)

    def _codes(self, y: Any) -> Any:
        codes = {label: code for code, label in enumerate(self.classes or [])}
        return np.array([codes[label] for label in y])

    @available_if(lambda self: self.classes is not None)
    def predict_proba(self, X: Any) -> Any:
        """Return a column of probabilities for each of `classes_`."""
        values = _numbers(X)
        shares = self._average([member.predict_proba(values) for member in self.fitted_])
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Any:
        """Return labels, or numbers where the target is a number."""
        values = _numbers(X)
        if self.classes is None:
            outputs = [member.predict(values) for member in self.fitted_]
            if self.ceiling is not None:
                outputs = [np.expm1(np.minimum(output, self.ceiling)) for output in outputs]
            return self._average(outputs)
        shares = self.predict_proba(values)
        if len(self.classes) == 2:
            return self.classes_[(shares[:, 1] >= self.threshold).astype(int)]
        return self.classes_[shares.argmax(axis=1)]


def _numbers(X: Any) -> Any:
    return np.ascontiguousarray(X, dtype=np.float64)


def _label_type(labels: list[Any]) -> Any:
    kinds = {type(label) for label in labels}
    return kinds.pop() if len(kinds) == 1 and kinds <= {int, float, bool} else object


def predict_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the prediction of each row, and the probability of each class."""
    model = joblib.load(HERE / "model.pkl")
    answer = pd.DataFrame({"prediction": model.predict(rows)}, index=rows.index)
    if hasattr(model, "predict_proba"):
        shares = model.predict_proba(rows)
        for place, label in enumerate(model.classes_):
            answer[f"probability {label}"] = shares[:, place]
    return answer


def main(arguments: list[str]) -> None:
    """Predict the rows of a file, print them as CSV."""
    parser = argparse.ArgumentParser(description="Predict the rows of a CSV or parquet file.")
    parser.add_argument("rows", type=Path, help="file with the columns of the original data")
    parser.add_argument("-o", "--output", type=Path, help="write here instead of printing")
    options = parser.parse_args(arguments)
    parquet = options.rows.suffix == ".parquet"
    rows = pd.read_parquet(options.rows) if parquet else pd.read_csv(options.rows)
    predict_table(rows).to_csv(options.output or sys.stdout, index=False)


if __name__ == "__main__":
    if len(sys.argv) > 1 or (HERE / "model.pkl").exists():
        main(sys.argv[1:])
    else:
        Path("models").mkdir(exist_ok=True)
        shutil.copyfile(__file__, "models/predict.py")
        print("Wrote models/predict.py: `python predict.py new_rows.csv` prints predictions.")

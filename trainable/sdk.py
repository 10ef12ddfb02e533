"""What `from trainable import ...` offers to code that runs in a sandbox. Standard library only.

The sandbox puts this one file on the path as the whole `trainable` package, so the same
import works in a container that has nothing else of Trainable installed. Records travel on a
descriptor of their own (`TRAINABLE_RECORDS`), so nothing that code prints is taken for one.
In a user's own notebook or script there is no such descriptor: `log` prints one plain line.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_records = int(os.environ.get("TRAINABLE_RECORDS", "-1"))
_dumps = json.JSONEncoder(separators=(",", ":"), default=float).encode


def log(step: int, metrics: dict[str, float], run: str | None = None) -> None:
    """Record `metrics` for `step`, live; give `run` a model's name to compare several.

    Args:
        step: Iteration, epoch or trial; any whole number from 0.
        metrics: Names to numbers. A NaN or an infinity is kept as a gap in the chart.
        run: The model that the numbers belong to.
    """
    if _records < 0:
        values = "  ".join(f"{name}={value:.6g}" for name, value in metrics.items())
        print(f"step {step}  {values}" + (f"  ({run})" if run else ""))  # noqa: T201
        return
    _send(f"m{_dumps([step, metrics, run])}\n")


def configure_dashboard(charts: list[dict[str, Any]]) -> None:
    """Choose the live charts, once, before the first `log`.

    Args:
        charts: One dictionary a chart: `title`, `metrics` (names given to `log`) and `type`
            (`line`, `bar` or `scatter`).
    """
    if _records >= 0:
        _send(f"c{_dumps(charts)}\n")


def read_raw() -> pd.DataFrame:
    """Return the dataset as it was registered; a row's position is its `row_id`.

    `frame.attrs["source"]` says how the files were read (format, encoding, delimiter, ...).

    Raises:
        RuntimeError: Called outside of a sandbox.
    """
    folder = os.environ.get("TRAINABLE_DATASET")
    if folder is None:
        raise RuntimeError("read_raw() works in a sandbox only; here, read your file yourself.")
    import pandas as pd

    frame = pd.read_parquet(Path(folder) / "raw.parquet")
    frame.attrs["source"] = json.loads((Path(folder) / "dataset.json").read_text("utf-8"))
    return frame


def _send(line: str) -> None:
    data = memoryview(line.encode())
    while data:
        data = data[os.write(_records, data) :]

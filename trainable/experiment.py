"""Experiments: registering a dataset and the question about it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.home import Home
from trainable.storage.tables import ExperimentRow, new_id

if TYPE_CHECKING:
    from trainable import dataset as datasets


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A dataset and the question about it; pass one to `Session` to make another pass."""

    id: str
    name: str
    description: str
    dataset_ref: str
    """Where the data came from."""
    instructions: str
    rows: int
    columns: int
    created_at: datetime

    @classmethod
    def of(cls, row: ExperimentRow) -> "Experiment":
        """Return the experiment that `row` describes."""
        return cls(
            id=row.id,
            name=row.name,
            description=row.description,
            dataset_ref=row.dataset_ref,
            instructions=row.instructions,
            rows=row.rows or 0,
            columns=row.columns or 0,
            created_at=row.created_at,
        )


def register(
    home: Home,
    data: "datasets.Data | Experiment",
    wanted: Mapping[str, str | None],
    *,
    name: str | None = None,
    description: str = "",
    instructions: str = "",
) -> Experiment:
    """Read and store `data`, unless it is an experiment already, and return the experiment.

    Args:
        home: Where it is stored.
        data: What `Session` was given.
        wanted: Columns that must exist, by what they are for (`target`, `group`, `time`).
        name: Its name; that of the file by default.
        description: What the data is.
        instructions: What the user wants.

    Raises:
        DataError: The data cannot be read or used.
        TargetError: A wanted column is not there.
        StorageError: It cannot be stored.
    """
    from trainable import dataset as datasets  # pandas takes a second, which looking costs nobody

    if isinstance(data, Experiment):
        columns = datasets.stored_columns(_folder(home, data.id))
        datasets.check_columns(columns, wanted)
        return data
    loaded = datasets.load(data)
    datasets.check_columns(list(loaded.frame.columns), wanted)
    row = ExperimentRow(
        id=new_id(),
        name=name or loaded.name,
        description=description,
        dataset_ref=_reference(data),
        instructions=instructions,
        rows=len(loaded.frame),
        columns=loaded.frame.shape[1],
        source=loaded.source,
    )
    experiment = Experiment.of(row)
    datasets.store(loaded, _folder(home, row.id))
    home.database.add_experiment(row)
    return experiment


def _folder(home: Home, experiment_id: str) -> Path:
    return home.volume.path(f"datasets/{experiment_id}")


def _reference(data: "datasets.Data") -> str:
    if isinstance(data, str | os.PathLike):
        return str(Path(data).expanduser().absolute())
    if isinstance(data, Sequence):
        return ", ".join(str(Path(path).expanduser().absolute()) for path in data)
    return "DataFrame"

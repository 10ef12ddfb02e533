"""Reads what a stage left in the volume: its report, its files and Prep's metadata.

Files are an agent's work: they are read with a size limit, and only text and JSON are parsed.
"""

import json
from pathlib import PurePosixPath
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from trainable.errors import NotFoundError, StageFailed, StorageError
from trainable.stages import Stage
from trainable.storage.directory import DirectoryVolume
from trainable.storage.tables import ArtifactRow, DatasetMetaRow, SessionRow

REPORT_BYTES = 2 << 20
JSON_BYTES = 16 << 20
TYPES = {
    ".md": "report",
    ".png": "chart",
    ".jpg": "chart",
    ".svg": "chart",
    ".html": "chart",
    ".parquet": "dataset",
    ".csv": "dataset",
    ".pkl": "model",
    ".joblib": "model",
    ".py": "script",
    ".json": "metadata",
}


class SplitRows(BaseModel):
    """Size of one split."""

    rows: int


class PrepMetadata(BaseModel):
    """The part of Prep's `metadata.json` that the library itself uses."""

    target_column: str
    features: list[str]
    splits: dict[str, SplitRows]
    duplicates_removed: int = 0
    missing_target_rows: int = 0
    dropped_columns: dict[str, Any] = {}


def read_report(volume: DirectoryVolume, folder: str) -> str | None:
    """Return the stage's `report.md`, or None when there is none that can be read."""
    try:
        return volume.read_bytes(f"{folder}/report.md", REPORT_BYTES).decode("utf-8", "replace")
    except (NotFoundError, StorageError):
        return None


def read_json(volume: DirectoryVolume, path: str) -> dict[str, Any] | None:
    """Return the JSON object in `path`, or None when there is none that can be read."""
    try:
        found = json.loads(volume.read_bytes(path, JSON_BYTES))
    except (NotFoundError, StorageError, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def artifact_rows(volume: DirectoryVolume, session_id: str, stage: Stage) -> list[ArtifactRow]:
    """Return a row with size and hash for each file of the stage."""
    rows: list[ArtifactRow] = []
    for info in volume.list(f"sessions/{session_id}/{stage.value}"):
        if "/__pycache__/" in info.path:
            continue
        rows.append(
            ArtifactRow(
                session_id=session_id,
                stage=stage.value,
                type=artifact_type(info.path),
                name=PurePosixPath(info.path).name,
                path=info.path,
                size=info.size,
                sha256=volume.digest(info.path),
            )
        )
    return rows


def artifact_type(path: str) -> str:
    """Return what kind of file `path` is, by its name."""
    if path.endswith(".plotly.json"):
        return "chart"
    return TYPES.get(PurePosixPath(path).suffix.lower(), "file")


def dataset_meta(volume: DirectoryVolume, session: SessionRow) -> DatasetMetaRow:
    """Return what Prep's `metadata.json` and `schema.json` say about the prepared data.

    Raises:
        StageFailed: `metadata.json` is missing or lacks what the table needs.
    """
    folder = f"sessions/{session.id}/prep/data"
    try:
        found = PrepMetadata.model_validate(read_json(volume, f"{folder}/metadata.json"))
    except ValidationError as error:
        raise StageFailed(
            f"prep/data/metadata.json is not usable: {error.errors()[0]['msg']}.",
            remedy="Run Prep again.",
            code="metadata",
        ) from None
    rows = {split: about.rows for split, about in found.splits.items()}
    return DatasetMetaRow(
        session_id=session.id,
        experiment_id=session.experiment_id,
        columns=list((read_json(volume, f"{folder}/schema.json") or {}).items()),
        feature_columns=found.features,
        target_column=found.target_column,
        total_rows=sum(rows.values()),
        train_rows=rows.get("train", 0),
        val_rows=rows.get("val", 0),
        test_rows=rows.get("test", 0),
        quality_stats={
            "duplicates_removed": found.duplicates_removed,
            "missing_target_rows": found.missing_target_rows,
            "dropped_columns": found.dropped_columns,
        },
    )

"""Writing a dataset where sandboxes read it: all of it, or nothing."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.dataset.table import write_parquet
from trainable.errors import DataError, StorageError

if TYPE_CHECKING:
    from trainable.dataset import Dataset

_BLOCK = 1 << 20


def store(dataset: "Dataset", folder: Path) -> None:
    """Write `source/` (the original files), `raw.parquet` and `dataset.json` into `folder`.

    They are written beside it and then moved, so nothing half-written is ever seen.

    Raises:
        StorageError: The folder exists already, or the disk is full or read-only.
        DataError: An original file has changed since it was read.
    """
    unfinished: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}-", dir=folder.parent))
        _fill(dataset, unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise _storage_error(folder, error) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _fill(dataset: "Dataset", folder: Path) -> None:
    for original in dataset.originals:
        target = folder / "source" / original.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if _copy(original.path, target) != original.sha256:
            raise DataError(
                f"{original.name!r} has changed since it was read.", remedy="Start again."
            )
    _write(folder / "raw.parquet", lambda file: write_parquet(dataset.frame, file))
    text = json.dumps(dataset.source, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    _write(folder / "dataset.json", lambda file: file.write(f"{text}\n".encode()))
    _sync(folder)


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    try:
        opened = source.open("rb")
    except OSError as error:
        raise DataError(
            f"{source.name!r} is no longer there to be copied.", remedy="Start again."
        ) from error

    def copy(file: Any) -> None:
        while block := opened.read(_BLOCK):
            digest.update(block)
            file.write(block)

    with opened:
        _write(target, copy)
    return digest.hexdigest()


def _write(path: Path, fill: Callable[[Any], object]) -> None:
    with path.open("xb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_error(folder: Path, error: OSError) -> StorageError:
    where = f"The dataset cannot be stored in {str(folder.parent)!r}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageError(
                f"{where}: the disk is full.",
                remedy="Free some space, or set TRAINABLE_HOME to another disk.",
                code="disk_full",
            )
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return StorageError(
                f"{where}: it may not be written to.",
                remedy="Set TRAINABLE_HOME to a folder of yours.",
                code="read_only",
            )
        case errno.ENOTEMPTY | errno.EEXIST | errno.ENOTDIR:
            return StorageError(
                f"{where}: {folder.name!r} is there already.", remedy="Remove it, or start again."
            )
        case _:
            reason = (error.strerror or "unknown error").lower()
            return StorageError(f"{where}: {reason}.", remedy="Check the disk.")

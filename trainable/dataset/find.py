"""From what the user passed to the files that hold it: folders, archives, names, mistakes."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainable.dataset.archive import Limits, unpack
from trainable.dataset.read import ARCHIVES, FORMATS, is_supported, suffix, unreadable
from trainable.dataset.source import name_some
from trainable.errors import DataError, nearest

_ADDRESS = ("s3://", "gs://", "http://", "https://", "ftp://", "abfs://", "az://", "hdfs://")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file to read."""

    path: Path
    name: str
    """What it is called in notes and in `source_file`."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The files of a dataset."""

    originals: list[Found]
    """As the user has them, archives packed."""
    files: list[Found]
    """As they are read."""
    notes: list[str]


def find(paths: Sequence[str | os.PathLike[str]], scratch: Path, limits: Limits) -> Findings:
    """Return the files behind the paths; archives are unpacked into `scratch`.

    Raises:
        DataError: A path is missing or cannot be read, or there is no data in a folder.
    """
    notes: list[str] = []
    originals: list[Found] = []
    for path in [_path(path) for path in paths]:
        if _is_folder(path):
            originals += _in_folder(path, notes)
        else:
            originals.append(Found(path=path, name=path.name))
    originals = _distinct(originals)
    files: list[Found] = []
    for number, original in enumerate(originals):
        if suffix(original.name) in ARCHIVES:
            folder = scratch / str(number)
            folder.mkdir()
            files += _in_archive(original, folder, limits, notes)
        else:
            files.append(original)
    return Findings(originals=originals, files=files, notes=notes)


def _path(given: str | os.PathLike[str]) -> Path:
    text = os.fspath(given)
    if text.lower().startswith(_ADDRESS):
        kind = "an S3 address" if text.lower().startswith("s3://") else "a web address"
        raise DataError(
            f"{text!r} is {kind}, and only local files can be read.",
            remedy="Download the data first, then pass the file or folder.",
            code="not_local",
        )
    if not text or "\0" in text:
        raise DataError("The path of the data is empty.", remedy="Pass a file or a folder.")
    return Path(text).expanduser()


def _is_folder(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise unreadable(str(path), error) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise DataError(f"{str(path)!r} is neither a file nor a folder.", remedy="Pass a file.")
    return stat.S_ISDIR(mode)


def _missing(path: Path) -> DataError:
    try:
        beside = sorted(entry.name for entry in path.absolute().parent.iterdir())
    except OSError:
        return DataError(
            f"There is no folder {str(path.parent)!r}.",
            remedy="Check the path, or pass an absolute one.",
        )
    hint = nearest(path.name, beside).strip()
    return DataError(
        f"There is no file or folder {str(path)!r}.",
        remedy=hint or f"Check the path; the current folder is {str(Path.cwd())!r}.",
    )


def _in_folder(folder: Path, notes: list[str]) -> list[Found]:
    try:
        names = sorted(
            entry.name
            for entry in folder.iterdir()
            if not entry.name.startswith(".") and entry.is_file()
        )
    except OSError as error:
        raise unreadable(str(folder), error) from error
    usable = [name for name in names if is_supported(name)]
    if not usable:
        raise DataError(
            f"The folder {str(folder)!r} has no data files directly in it.",
            remedy=f"Pass a folder with files of these formats: {FORMATS}.",
        )
    if others := [name for name in names if not is_supported(name)]:
        notes.append(f"Not read, for their format: {name_some(others)}.")
    return [Found(path=folder / name, name=name) for name in usable]


def _in_archive(original: Found, folder: Path, limits: Limits, notes: list[str]) -> list[Found]:
    try:
        members = unpack(original.path, folder, limits)
    except OSError as error:
        raise unreadable(original.name, error) from error
    usable = [m for m in members if is_supported(m.name) and suffix(m.name) not in ARCHIVES]
    others = [m.name for m in members if m not in usable]
    if not usable:
        raise DataError(
            f"{original.name!r} holds no file that can be read.",
            remedy=f"Pack files of these formats: {FORMATS}.",
        )
    if others:
        notes.append(f"Not read from {original.name!r}, for their format: {name_some(others)}.")
    single = suffix(original.name) == ".gz"
    return [
        Found(path=m.path, name=m.name if single else f"{original.name}/{m.name}") for m in usable
    ]


def _distinct(found: list[Found]) -> list[Found]:
    """Name files of the same name by their folders, and refuse the same file twice."""
    paths = [file.path.resolve() for file in found]
    if len(set(paths)) < len(paths):
        twice = next(path.name for k, path in enumerate(paths) if path in paths[:k])
        raise DataError(f"{twice!r} is passed twice.", remedy="Pass every file once.")
    if len({file.name for file in found}) == len(found):
        return found
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return [
        Found(path=file.path, name=path.relative_to(common).as_posix())
        for file, path in zip(found, paths, strict=True)
    ]

"""Unpacking of `.gz` and `.zip`, with limits that a decompression bomb cannot pass."""

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from trainable.errors import DataError

LARGEST = 8 << 30
"""Bytes that an archive may unpack to."""
_FREE = 256 << 20
_RATIO = 200
_MOST_MEMBERS = 10_000
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may unpack to."""

    largest: int = LARGEST
    free: int = _FREE
    """Bytes up to which any ratio is accepted."""
    ratio: int = _RATIO
    """Unpacked over packed size beyond `free`."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file that came out of an archive."""

    path: Path
    name: str
    """Its name in the archive, for people only: never used as a path."""


def unpack(path: Path, folder: Path, limits: Limits | None = None) -> list[Member]:
    """Unpack the archive into `folder`, under names of our own, sorted by name.

    Raises:
        DataError: The archive is damaged, encrypted, or too large.
    """
    limits = limits or Limits()
    try:
        if zipfile.is_zipfile(path):
            return _unpack_zip(path, folder, limits)
        name = path.name.removesuffix(".gz").removesuffix(".GZ")
        target = folder / f"0{PurePosixPath(name).suffix}"
        with gzip.open(path) as packed:
            _copy(packed, target, _Budget(path, limits))
        return [Member(path=target, name=name)]
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path.name!r} is not a complete archive.", remedy="Copy or download it again."
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{path.name!r} is encrypted, or packed in a way that cannot be read.",
            remedy="Unpack it and pass the file inside.",
        ) from error


def check_zip(path: Path, limits: Limits | None = None) -> None:
    """Refuse a zip-based file that claims to unpack to more than is allowed.

    Raises:
        DataError: It is damaged or too large.
    """
    budget = _Budget(path, limits or Limits())
    try:
        with zipfile.ZipFile(path) as archive:
            budget.spend(sum(member.file_size for member in archive.infolist()))
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path.name!r} is damaged.", remedy="Save or download it again."
        ) from error


def _unpack_zip(path: Path, folder: Path, limits: Limits) -> list[Member]:
    check_zip(path, limits)
    budget = _Budget(path, limits)
    with zipfile.ZipFile(path) as archive:
        members = sorted((m for m in archive.infolist() if _wanted(m)), key=lambda m: m.filename)
        if len(members) > _MOST_MEMBERS:
            raise DataError(
                f"{path.name!r} holds {len(members):,} files.", remedy="Pass the one that matters."
            )
        found: list[Member] = []
        for number, member in enumerate(members):
            target = folder / f"{number}{PurePosixPath(member.filename).suffix[:16].lower()}"
            with archive.open(member) as packed:
                _copy(packed, target, budget)
            found.append(Member(path=target, name=member.filename))
    return found


def _wanted(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    return not member.is_dir() and not any(
        p.startswith((".", "__MACOSX")) and p != ".." for p in parts
    )


class _Budget:
    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._packed = max(path.stat().st_size, 1)
        self._spent = 0

    def spend(self, size: int) -> None:
        self._spent += size
        limits = self._limits
        dense = self._spent > limits.free and self._spent > limits.ratio * self._packed
        if self._spent > limits.largest or dense:
            raise DataError(
                f"{self._path.name!r} unpacks to far more than its size allows for.",
                remedy="If you trust it, unpack it yourself and pass the file inside.",
                code="archive_too_large",
            )


def _copy(packed: IO[bytes] | gzip.GzipFile, target: Path, budget: _Budget) -> None:
    with target.open("wb") as file:
        while block := packed.read(_BLOCK):
            budget.spend(len(block))
            file.write(block)

"""The volume as a local directory, opened so that files written by agents can do no harm.

Every path is walked component by component without following links, and only regular files
with one name are read: code in the sandbox may have put a link, a pipe or a device anywhere.
What is inside a file is not looked at here.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import os
import stat
import unicodedata
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from trainable.errors import NotFoundError, StorageError

READ_LIMIT = 64 << 20
"""Bytes that `read_bytes` reads at most unless told otherwise."""
_MOST_FILES = 10_000
_DEEPEST = 32
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNREACHABLE = (FileNotFoundError, NotADirectoryError, PermissionError)
_UNSAFE_KINDS = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # controls, and what reorders text
_REMEDIES = {
    errno.ELOOP: ("unsafe_file", "Files are not read over links: copy it to where it should be."),
    errno.ENOSPC: ("storage_full", "Free some space on the disk, then try again."),
    errno.EDQUOT: ("storage_full", "Free some space on the disk, then try again."),
    errno.EROFS: ("storage_read_only", "Set TRAINABLE_HOME to a folder that is writable."),
    errno.EACCES: ("storage_read_only", "Make its folder readable and writable for you."),
    errno.EPERM: ("storage_read_only", "Make its folder readable and writable for you."),
}
_JOINERS = {"\u200c", "\u200d"}  # ordinary in Persian and in emoji


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file of the volume."""

    path: str
    """Relative to the volume, with forward slashes."""
    size: int
    """Bytes."""
    modified_ns: int
    """Time of the last change, to tell whether it changed; not to be shown."""


class DirectoryVolume:
    """Reads and writes files below one directory, named by their path relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, path: str) -> Path:
        """Return where `path` lies on this machine, for those who may follow links.

        Raises:
            StorageError: It would lie outside of the volume, or has an unsafe name.
        """
        return self.root.joinpath(*_parts(path))

    def make_folder(self, path: str) -> Path:
        """Make the folder and those above it, where missing; return where it lies."""
        with _errors(path), _folder(self.root, _parts(path), make=True):
            return self.path(path)

    def open(self, path: str) -> io.BufferedReader:
        """Open a regular file for reading.

        Raises:
            NotFoundError: There is no such file.
            StorageError: It is a link, or something else that is not safe to read.
        """
        parts = _parts(path)
        with _errors(path), _folder(self.root, parts[:-1]) as folder:
            handle = os.open(parts[-1], _FILE, dir_fd=folder)
            found = os.fstat(handle)
            if (problem := _problem(found)) is not None:
                os.close(handle)
                raise StorageError(f"{path!r} is {problem} and is not read.", code="unsafe_file")
            os.set_blocking(handle, True)
            return os.fdopen(handle, "rb")

    def read_bytes(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """Return what is in the file.

        Raises:
            NotFoundError: There is no such file.
            StorageError: It has more than `limit` bytes, or is not safe to read.
        """
        with self.open(path) as file, _errors(path):
            data = file.read(limit + 1)
        if len(data) > limit:
            raise StorageError(
                f"{path!r} has more than {limit:,} bytes.",
                remedy="Open it as a file instead.",
                code="file_too_large",
            )
        return data

    def digest(self, path: str) -> str:
        """Return the SHA-256 of the file, in hexadecimal digits."""
        with self.open(path) as file, _errors(path):
            return hashlib.file_digest(file, "sha256").hexdigest()

    def list(self, prefix: str = "") -> list[FileInfo]:
        """Return the files that are safe to read in the folder `prefix` and below, by path.

        Links, special files and unsafe names are left out, and so is what goes beyond 10,000
        entries or 32 levels.
        """
        found: list[FileInfo] = []
        todo = [_parts(prefix) if prefix else []]
        looked_at = 0
        while todo and looked_at < _MOST_FILES:
            above = todo.pop()
            with _errors(prefix):
                entries = _entries(self.root, above)
            for name, info in entries:
                looked_at += 1
                if stat.S_ISDIR(info.st_mode) and len(above) < _DEEPEST:
                    todo.append([*above, name])
                elif _problem(info) is None:
                    path, size = "/".join([*above, name]), info.st_size
                    found.append(FileInfo(path=path, size=size, modified_ns=info.st_mtime_ns))
        return sorted(found[:_MOST_FILES], key=lambda file: file.path)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write the file, with the folders above it; nobody ever sees a part of it.

        Raises:
            StorageError: It cannot be written; what was there before is unchanged.
        """
        parts = _parts(path)
        with _errors(path), _folder(self.root, parts[:-1], make=True) as folder:
            passing = f".{uuid4().hex}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(passing, flags, 0o644, dir_fd=folder), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(passing, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(passing, dir_fd=folder)
                raise


@contextlib.contextmanager
def _folder(root: Path, parts: list[str], *, make: bool = False) -> Generator[int]:
    """Give a handle of the folder that is reached over `parts`, none of them a link."""
    if make:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            below = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _entries(root: Path, parts: list[str]) -> list[tuple[str, os.stat_result]]:
    """Return what lies in a folder under safe names, without what cannot be reached."""
    found: list[tuple[str, os.stat_result]] = []
    with contextlib.suppress(*_UNREACHABLE), _folder(root, parts) as folder:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_FILES)]
        for name in filter(_safe_name, names):
            with contextlib.suppress(*_UNREACHABLE):
                found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
    return found


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if len(parts) > _DEEPEST or not all(map(_safe_name, parts)):
        raise StorageError(
            f"{path!r} is not a path inside the volume.",
            remedy="Give one like 'sessions/ID/eda/report.md'.",
            code="unsafe_path",
        )
    return parts


def _safe_name(name: str) -> bool:
    if name in {"", ".", ".."} or "/" in name or "\\" in name:
        return False
    return not any(
        unicodedata.category(letter) in _UNSAFE_KINDS and letter not in _JOINERS for letter in name
    )


def _problem(info: os.stat_result) -> str | None:
    """Say what makes a file unsafe to read, None when nothing does."""
    if stat.S_ISLNK(info.st_mode):
        return "a link"
    if stat.S_ISDIR(info.st_mode):
        return "a folder"
    if not stat.S_ISREG(info.st_mode):
        return "a special file"
    return "a file with several names" if info.st_nlink != 1 else None


@contextlib.contextmanager
def _errors(path: str) -> Generator[None]:
    """Turn what the system says about `path` into our own errors."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"There is no {path!r} in the volume.", remedy="List the files to see what there is."
        ) from None
    except OSError as error:
        code, remedy = _REMEDIES.get(error.errno or 0, ("storage_io", "Check the disk."))
        reason = os.strerror(error.errno or 0).lower()
        raise StorageError(f"{path!r} is not usable: {reason}.", remedy=remedy, code=code) from None

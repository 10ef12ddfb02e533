"""What a box of each isolation level is made of, and the command that starts a program in it."""

import json
import os
import re
import secrets
import shutil
import site
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import trainable
from trainable.sandbox import confine, driver, jail, watch
from trainable.sandbox.base import BoxSpec
from trainable.settings import machine_environment

Level = Literal["bubblewrap", "namespaces", "landlock", "none"]
SYSTEM = (
    *("/usr", "/bin", "/lib", "/lib32", "/lib64", "/sbin", "/etc/alternatives", "/etc/fonts"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"),
    *("/etc/mime.types", "/etc/pki", "/etc/ssl/certs", "/nix/store", "/sys/devices/system/cpu"),
)
SHARED_PLACES = {"/", "/etc", "/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var"}
"""Never shown to a box as a whole, whatever is installed there."""
DATA = "/data"
SDK, HOME, TEMPORARY = "/opt/trainable", "/home/user", ("/tmp", "/dev/shm")
OF_VOLUME = re.compile(r"/((?:sessions/[^/]+/(?:eda|prep|train)|datasets/[^/]+)(?:/.*)?)$")
NO_PSUTIL = 'raise ImportError("psutil needs /proc, which this sandbox does not show")\n'
USERS = range(61_000, 65_000)
"""User ids that boxes get when the host is root; nobody else's on usual systems."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder of the host and where the box has it."""

    source: str
    inside: str
    writable: bool = False


class Walls:
    """One box's level and what is seen in it."""

    def __init__(self, level: Level, spec: BoxSpec, folder: Path) -> None:
        """Plan a box.

        Args:
            level: How to isolate it.
            spec: What it gets to see.
            folder: The box's own folder on the host, with `home`, `root`, `sdk` and `tmp`.
        """
        self.level = level
        self._spec = spec
        self._folder = folder
        self.mapped = level in ("bubblewrap", "namespaces")
        self._mounts = list(_mounts(spec, folder))
        self._user = self._choose_user() if self.mapped and os.getuid() == 0 else None

    def inside(self, path: str) -> str:
        """Return where the box has what the host calls `path`; any other text as it is."""
        if not self.mapped:
            return path
        pairs = [(mount.source, mount.inside) for mount in self._mounts]
        pairs.append((str(self._folder / "tmp"), TEMPORARY[0]))
        for source, inside in sorted(pairs, key=lambda pair: -len(pair[0])):
            if path == source or path.startswith(f"{source}/"):
                return inside + path[len(source) :]
        return path

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        """Return the variables with the paths that the box has."""
        translated = {name: self.inside(value) for name, value in variables.items()}
        if _of_volume(self._spec.workdir):
            root = str(self._spec.workdir.absolute().parents[2])
            translated["TRAINABLE_DATA"] = DATA if self.mapped else root
        if self.level == "landlock":  # joblib would list /dev/shm, which everybody's files are in
            translated["JOBLIB_TEMP_FOLDER"] = str(self._folder / "tmp")
        return translated

    def share_files(self) -> None:
        """Let the box's user, if it has one of its own, write and read what it is to."""
        if self._user is None:
            return
        for mount in self._mounts:
            for _, folders, files, handle in os.fwalk(mount.source):
                if mount.writable:
                    os.fchown(handle, self._user, self._user)
                else:
                    os.fchmod(handle, os.fstat(handle).st_mode | 0o055)
                _share(handle, [*folders, *files], self._user if mount.writable else None)

    def driver_command(self, descriptor: int, preload: tuple[str, ...]) -> list[str]:
        """Return the command that starts the driver in the box."""
        spec = self._spec
        config = self.confinement() | {
            "preload": preload,
            "workdir": self.inside(str(spec.workdir.absolute())),
            "parts": {"watch": watch.__file__, "confine": confine.__file__},
            "folders": self._disks(),
            "temporary": TEMPORARY if self.mapped else (),
        }
        python = (sys.executable, "-P", "-u", driver.__file__)
        return self.command([*python, str(descriptor), json.dumps(config)])

    def confinement(self) -> dict[str, Any]:
        """Return what `confine.Confinement` needs to know."""
        limits = {name: value for name, value in vars(self._spec.limits).items() if value}
        landlock = None
        if self.level == "landlock":
            writable = [mount.source for mount in self._mounts if mount.writable]
            others = [mount.source for mount in self._mounts if not mount.writable]
            read = [*system_paths(), *others]
            landlock = {"read": read, "write": [*writable, str(self._folder / "tmp")]}
        return {"limits": limits, "filter": self.level != "none", "landlock": landlock}

    def command(self, program: list[str]) -> list[str]:
        """Return the command that starts `program` in the box."""
        if not self.mapped:
            return program
        config = json.dumps(self._jail(program))
        inner = [sys.executable, "-I", "-S", jail.__file__, config]
        return inner if self.level == "namespaces" else [*self._bubblewrap(), "--", *inner]

    def _choose_user(self) -> int:
        """Return the user that owns the session's files already, else a new one."""
        for path in (self._spec.workdir, *self._spec.readonly):
            if path.exists() and path.stat().st_uid in USERS:
                return path.stat().st_uid
        return secrets.choice(USERS)

    def _disks(self) -> list[str]:
        """Return the folders whose files count, as the box has them."""
        own = HOME if self.mapped else str(self._folder)
        return [self.inside(str(self._spec.workdir.absolute())), own]

    def _temporary_bytes(self) -> int:
        return int(min(self._spec.limits.memory // 2, self._spec.limits.disk))

    def _jail(self, program: list[str]) -> dict[str, Any]:
        user = os.getuid() if self._user is None else self._user
        return {
            "mode": self.level,
            "argv": program,
            "user": self._user,
            "root": str(self._folder / "root"),
            "system": system_paths(),
            "mounts": [(mount.source, mount.inside, mount.writable) for mount in self._mounts],
            "files": _etc(user),
            "temporary_bytes": self._temporary_bytes(),
            "temporary_files": int(self._spec.limits.inodes),
        }

    def _bubblewrap(self) -> list[str]:
        names = [f"--unshare-{name}" for name in ("ipc", "pid", "net", "uts", "cgroup-try")]
        command = [find_bubblewrap() or "bwrap", *names, "--as-pid-1", "--die-with-parent"]
        command += ["--new-session", "--hostname", "sandbox"]
        if self._user is None:
            command += ["--unshare-user", "--cap-drop", "ALL"]
        else:
            command += ["--cap-add", "ALL"]  # for the change of the user; gone after it
        command += ["--proc", "/proc", "--dev", "/dev"]
        for folder in TEMPORARY:
            size = str(self._temporary_bytes())
            command += ["--perms", "1777", "--size", size, "--tmpfs", folder]
        seen = [path for path in system_paths() if Path(path).exists()]
        for parent in _parents([*seen, *(mount.inside for mount in self._mounts)]):
            command += ["--perms", "0755", "--dir", parent]
        for path in seen:
            if Path(path).is_symlink():
                command += ["--symlink", str(Path(path).readlink()), path]
            else:
                command += ["--ro-bind", path, path]
        for path in _etc(0):
            command += ["--ro-bind", f"{self._folder}/sdk{path}", path]
        for mount in self._mounts:
            how = "--bind" if mount.writable else "--ro-bind"
            command += [how, mount.source, mount.inside]
        return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]

    def write_files(self) -> None:
        """Write into the box's folder what the level takes from files."""
        if self.level == "landlock":  # joblib's workers use it if it is there, and then fail
            (self._folder / "sdk/psutil.py").write_text(NO_PSUTIL)
        if self.level == "bubblewrap":
            for path, text in _etc(os.getuid() if self._user is None else self._user).items():
                place = Path(f"{self._folder}/sdk{path}")
                place.parent.mkdir(exist_ok=True)
                place.write_text(text)


def find_bubblewrap() -> str | None:
    """Return where bubblewrap is installed."""
    return shutil.which("bwrap", path=machine_environment().get("PATH"))


def system_paths() -> list[str]:
    """Return what a box has of this machine: system libraries, Python and its packages."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    python |= {*site.getsitepackages(), str(Path(sys.executable).resolve().parents[1])}
    python |= set(filter(None, machine_environment().get("LD_LIBRARY_PATH", "").split(":")))
    if site.ENABLE_USER_SITE:
        python.add(site.getusersitepackages())
    package = str(Path(trainable.__file__).parent)
    wanted = {str(Path(path).absolute()) for path in (*python, package)}
    wanted |= {str(Path(path).resolve()) for path in wanted}
    found = list(SYSTEM)
    for path in sorted(wanted - SHARED_PLACES - {str(Path.home())}, key=len):
        if not any(path == above or path.startswith(f"{above}/") for above in found):
            found.append(path)
    return found


def _mounts(spec: BoxSpec, folder: Path) -> Iterator[Mount]:
    yield Mount(source=str(folder / "sdk"), inside=SDK)
    yield Mount(source=str(folder / "home"), inside=HOME, writable=True)
    for number, path in enumerate(spec.readonly):
        if path.is_dir():
            inside = _of_volume(path) or f"{DATA}/inputs/{number}"
            yield Mount(source=str(path.absolute()), inside=inside)
    workdir = spec.workdir.absolute()
    inside = _of_volume(workdir) or f"{DATA}/work"
    yield Mount(source=str(workdir), inside=inside, writable=True)


def _of_volume(path: Path) -> str | None:
    """Return the place of a volume's folder in a box, None for any other folder."""
    match = OF_VOLUME.search(str(path.absolute()))
    return f"{DATA}/{match[1]}" if match else None


def _parents(paths: list[str]) -> list[str]:
    """Return the folders above the paths, those above others first."""
    above = {str(parent) for path in paths for parent in Path(path).parents}
    return sorted(above - {"/", "/usr", "/dev", "/proc", *TEMPORARY}, key=len)


def _etc(user: int) -> dict[str, str]:
    return {
        "/etc/passwd": f"root:x:0:0::/:/bin/false\nuser:x:{user}:{user}::{HOME}:/bin/sh\n",
        "/etc/group": f"user:x:{user}:\n",
        "/etc/hosts": "127.0.0.1 localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }


def _share(folder: int, names: list[str], owner: int | None) -> None:
    """Give files to `owner`, or without one let everybody read them; links are left alone."""
    for name in names:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
            continue
        if owner is not None and found.st_uid != owner:
            os.chown(name, owner, owner, dir_fd=folder, follow_symlinks=False)
        elif owner is None and not stat.S_ISDIR(found.st_mode):
            wanted = found.st_mode | 0o044
            if found.st_mode != wanted:
                os.chmod(name, wanted, dir_fd=folder)

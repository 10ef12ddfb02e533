"""Builds the walls of a box out of namespaces, then becomes the driver inside. Linux 5.12 or newer.

Standard library only. Run as `python -I -S jail.py CONFIG`: `mode` is "namespaces", or
"bubblewrap" when bubblewrap has made them already and only privileges are left to be dropped.
The driver is the first process of its process namespace: code in the box cannot signal it, and
when it ends the kernel ends everything in there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
NEW_MOUNT, NEW_NAMES, NEW_IPC = 0x20000, 0x04000000, 0x08000000
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
WALLS = NEW_MOUNT | NEW_NAMES | NEW_IPC | NEW_PROCESSES | NEW_NETWORK
NO_SETUID, NO_DEVICES, NO_EXECUTE, BIND, RECURSIVE, PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
ONLY_READ = 1
MOUNT_SETATTR = 442
PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41
DEVICES = ("null", "zero", "full", "random", "urandom")
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 24, 38, 47


def enter_namespaces(config: dict[str, Any]) -> None:
    """Go on as the first process of new namespaces; the caller's process waits for its end."""
    user, group = os.getuid(), os.getgid()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if user != 0 or LIBC.unshare(WALLS) != 0:
        _call(LIBC.unshare(WALLS | NEW_USER), "new namespaces")
        config["user"] = None
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, text in maps.items():
            _write(f"/proc/self/{name}", text)
    child = os.fork()
    if child:
        os.closerange(0, 2)
        os.closerange(3, 1 << 16)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else 128 - code)
    LIBC.sethostname(b"sandbox", 7)
    _build_root(config)


def _build_root(config: dict[str, Any]) -> None:
    """Make a root of its own: `system` as it is, `mounts` where they belong, nothing else."""
    root = config["root"]
    _mount("none", "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NO_SETUID | NO_DEVICES, "size=16m,mode=755")
    size, files = config["temporary_bytes"], config["temporary_files"]
    for folder in ("/tmp", "/dev/shm"):
        os.makedirs(root + folder)
        options = f"size={size},nr_inodes={files},mode=1777"
        _mount("tmpfs", root + folder, "tmpfs", NO_SETUID | NO_DEVICES, options)
    for path in config["system"]:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.symlink(os.readlink(path), root + path)
        else:
            _bind(root, path, path, ONLY_READ | NO_SETUID | NO_DEVICES)
    for path, text in config["files"].items():
        _write(_target(root, path, folder=False), text)
    for name in DEVICES:
        _bind(root, f"/dev/{name}", f"/dev/{name}", NO_SETUID)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{root}/dev/{name}")
    for source, inside, writable in config["mounts"]:
        flags = NO_SETUID | NO_DEVICES | (0 if writable else ONLY_READ)
        _bind(root, source, inside, flags)
    os.makedirs(f"{root}/proc", exist_ok=True)
    # Before the old root goes: the kernel wants to see a whole /proc in this namespace.
    _mount("proc", f"{root}/proc", "proc", NO_SETUID | NO_DEVICES | NO_EXECUTE)
    os.chdir(root)
    _call(LIBC.syscall(PIVOT_ROOT, b".", b"."), "pivot_root")
    _call(LIBC.umount2(b".", 2), "leaving the old root")
    os.chdir("/")
    _set_flags("/", ONLY_READ, deep=False)


def _bind(root: str, source: str, inside: str, flags: int) -> None:
    if not os.path.exists(source):
        return
    target = _target(root, inside, folder=os.path.isdir(source))
    _mount(source, target, None, BIND | RECURSIVE)
    _set_flags(target, flags, deep=True)


def _target(root: str, path: str, *, folder: bool) -> str:
    """Make the place where something is to be seen, unless it is there."""
    target = root + path
    os.makedirs(target if folder else os.path.dirname(target), exist_ok=True)
    if not folder and not os.path.lexists(target):
        _write(target, "")
    return target


def _mount(
    source: str, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    names = [text and text.encode() for text in (source, target, kind, options)]
    result = LIBC.mount(names[0], names[1], names[2], ctypes.c_ulong(flags), names[3])
    _call(result, f"mounting {target}")


def _set_flags(path: str, flags: int, *, deep: bool) -> None:
    attributes, size = struct.pack("QQQQ", flags, 0, 0, 0), ctypes.c_size_t(32)
    how = 0x8000 if deep else 0
    result = LIBC.syscall(MOUNT_SETATTR, -100, path.encode(), how, attributes, size)
    _call(result, f"protecting {path}")


def drop_privileges(user: int | None) -> None:
    """Become `user`, if there is one, and give up every capability, for good."""
    for capability in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header = struct.pack("II", 0x20080522, 0)
    _call(LIBC.capset(header, struct.pack("IIIIII", *[0] * 6)), "giving up capabilities")
    LIBC.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    _call(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # changing the user has cleared it


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _call(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def main() -> None:
    """Build the walls that `argv[1]` describes, and become the program in it."""
    config = json.loads(sys.argv[1])
    os.umask(0o022)
    try:
        if config["mode"] == "namespaces":
            enter_namespaces(config)
        drop_privileges(config["user"])
        os.chdir("/")
        os.execv(config["argv"][0], config["argv"])
    except OSError as error:
        sys.stderr.write(f"jail: {error.strerror or error}\n")
        sys.stderr.flush()
        os._exit(125)


if __name__ == "__main__":
    main()

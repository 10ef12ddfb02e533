"""Runs a Python module where the kernel refuses what walls are made of, as some containers do.

python -m tests.support.forbid namespaces|everything MODULE [ARGUMENT ...]
"""

import ctypes
import errno
import os
import struct
import sys

from trainable.sandbox import confine

NAMESPACES = ("unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr")
LANDLOCK = {"landlock_create_ruleset": (444, 444)}


def forbid(*, landlock: bool) -> None:
    """Forbid this process and all that it starts to make namespaces, and rules of Landlock."""
    program = confine._Filter()
    program.refuse({name: confine.FORBIDDEN[name] for name in NAMESPACES}, errno.EPERM)
    program.refuse({"clone3": confine.CLONE3} | (LANDLOCK if landlock else {}), errno.ENOSYS)
    flags = (confine.IF_ANY_BIT, confine.NEW_NAMESPACE, 0, 1)
    program.refuse_if(confine.CLONE, confine.FIRST, errno.EPERM, flags)
    code = program.bytes()
    buffer = ctypes.create_string_buffer(code, len(code))
    where = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    confine.LIBC.prctl(confine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    confine._call(confine.LIBC.prctl(confine.PR_SET_SECCOMP, 2, where, 0, 0), "seccomp")


if __name__ == "__main__":
    forbid(landlock=sys.argv[1] == "everything")
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])

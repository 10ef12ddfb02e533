"""What a step does to itself before its code runs: limits, Landlock, a filter of system calls.

Standard library only: the driver loads this file by its path, inside the box. Run as a program
it does the same and says so, which is how a host finds out whether that works.
The filter names what is forbidden and lets the rest pass, so that what data scientists use
works; it knows x86_64 and aarch64.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import signal
import struct
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
MACHINE = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}.get(platform.machine())
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
OPEN_FILES = 4096

# System calls, each with its number on x86_64 and on aarch64; -1 where there is none.
FORBIDDEN = {
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "fspick": (433, 433)},
    **{"move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431)},
    **{"fsmount": (432, 432), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265)},
    **{"name_to_handle_at": (303, 264), "mknod": (133, -1), "mknodat": (259, 33)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105)},
    **{"finit_module": (313, 273), "delete_module": (176, 106), "bpf": (321, 280)},
    **{"perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219)},
    **{"add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425)},
    **{"io_uring_enter": (426, 426), "io_uring_register": (427, 427), "swapon": (167, 224)},
    **{"swapoff": (168, 225), "reboot": (169, 142), "settimeofday": (164, 170)},
    **{"clock_settime": (227, 112), "adjtimex": (159, 171), "acct": (163, 89)},
    **{"quotactl": (179, 60), "syslog": (103, 116), "personality": (135, 92)},
    **{"pidfd_getfd": (438, 438), "process_madvise": (440, 440), "kcmp": (312, 272)},
    **{"vhangup": (153, 58), "modify_ldt": (154, -1), "iopl": (172, -1), "ioperm": (173, -1)},
    **{"sethostname": (170, 161), "fanotify_init": (300, 262), "lookup_dcookie": (212, 18)},
}
# Memory that no process need have mapped, and that is therefore in nobody's count.
UNCOUNTED = {
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194)},
    **{"shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
}
# Landlock has no rule for metadata: what would change it does nothing, and says that it worked.
METADATA = {
    **{"chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54)},
    **{"utimensat": (280, 88), "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
}
CLONE, CLONE3, PRCTL, IOCTL = (56, 220), (435, 435), (157, 167), (16, 29)
SOCKET, SOCKETPAIR, MMAP = (41, 198), (53, 199), (9, 222)
SHARED_AND_ANONYMOUS = 0x21
"""Kind of mapping whose pages stay when they are unmapped in part, and are in nobody's count."""
NEW_NAMESPACE, UNIX_SOCKET = 0x7E020000, 1
STEAL_INPUT = (0x5412, 0x541C)
"""What pushes keystrokes into a terminal (TIOCSTI and TIOCLINUX)."""
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, RETURN, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, MASK = 0x20, 0x06, 0x15, 0x35, 0x45, 0x54
NUMBER, ARCHITECTURE, FIRST, SECOND, FOURTH = 0, 4, 16, 24, 40

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_ENTER = 444, 445, 446
EXECUTE, WRITE, READ, LIST = 1, 2, 4, 8
CHANGE = 0x10 | 0x20 | 0x80 | 0x100 | 0x200 | 0x1000
"""Remove and make folders, files, sockets and links."""
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
OF_SYSTEM = (
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/proc/cpuinfo"),
    *("/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/sys/vm/overcommit_memory"),
    "/sys/fs/cgroup",  # where libraries look for how many processors they may use
)


class Confinement:
    """Everything is prepared once, so that each step pays for a few system calls only."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Prepare.

        Args:
            config: `limits` (see `trainable.sandbox.limits.Limits`), `filter` (whether to filter
                system calls) and `landlock`: None, or the paths to `read` and to `write`.
        """
        self._limits: dict[str, float] = config["limits"]
        self._landlock = config["landlock"] and _ruleset(**config["landlock"])
        apart = config["filter"] and self._landlock is None  # only then are users counted apart
        self._fork_limit = 0 if apart else _processes_of_user()
        program = _filter(bare=self._landlock is None) if config["filter"] else b""
        self._program = ctypes.create_string_buffer(program, len(program))

    def enter(self) -> None:
        """Confine this process and all that it starts, for good."""
        _call(LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # short of memory, the kernel is to end the step, not the driver
        self._set_limits()
        if self._landlock is not None:
            _allow(self._landlock, "/proc/self", READ | LIST)
        if self._landlock is not None or self._program:
            _call(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        if self._landlock is not None:
            _call(LIBC.syscall(LANDLOCK_ENTER, self._landlock, 0), "Landlock")
            os.close(self._landlock)
        if self._program:
            count, where = len(self._program) // 8, ctypes.addressof(self._program)
            program = struct.pack("HxxxxxxQ", count, where)
            _call(LIBC.prctl(PR_SET_SECCOMP, 2, program, 0, 0), "seccomp")

    def _set_limits(self) -> None:
        """Set what the kernel enforces; a little above what is watched, which names the limit."""
        limits = self._limits
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        _set(resource.RLIMIT_CORE, 0)
        _set(resource.RLIMIT_NOFILE, OPEN_FILES)
        _set(resource.RLIMIT_FSIZE, int(limits["file_size"]))
        _set(resource.RLIMIT_DATA, 2 * int(limits["memory"]) + (1 << 30))
        _set(resource.RLIMIT_NPROC, self._fork_limit + 2 * int(limits["processes"]))
        if cpu := limits.get("cpu"):
            _set(resource.RLIMIT_CPU, int(cpu) + 1)


def _set(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _processes_of_user() -> int:
    """Return how many threads this user runs already, all of which the kernel counts."""
    count = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{entry}/task"))
    return count


class _Filter:
    """A program of the kernel's packet filter that looks at one system call."""

    def __init__(self) -> None:
        if MACHINE is None:
            raise OSError(errno.ENOSYS, f"there is no filter for {platform.machine()}")
        self._column, architecture = MACHINE
        self._code: list[bytes] = []
        self.add((LOAD, ARCHITECTURE), (IF_EQUAL, architecture, 1, 0), (RETURN, KILL))
        self.add((LOAD, NUMBER))
        if self._column == 0:  # the x32 variants of all calls
            self.add((IF_AT_LEAST, 0x40000000, 0, 1), (RETURN, ERRNO | errno.EPERM))

    def add(self, *instructions: tuple[int, ...]) -> None:
        """Append instructions: operation, value, and how many to skip if true and if false."""
        for operation, value, *skips in instructions:
            then, otherwise = skips or (0, 0)
            self._code.append(struct.pack("HBBI", operation, then, otherwise, value))

    def refuse(self, calls: dict[str, tuple[int, int]], error: int) -> None:
        """Let the calls fail with `error`, or do nothing if that is 0."""
        for number in sorted({numbers[self._column] for numbers in calls.values()} - {-1}):
            self.add((IF_EQUAL, number, 0, 1), (RETURN, ERRNO | error))

    def refuse_if(
        self, call: tuple[int, int], argument: int, error: int, *tests: tuple[int, ...]
    ) -> None:
        """Let the call fail when `tests` on its argument do not skip the instruction after them."""
        self.add((IF_EQUAL, call[self._column], 0, len(tests) + 3), (LOAD, argument), *tests)
        self.add((RETURN, ERRNO | error), (LOAD, NUMBER))

    def bytes(self) -> bytes:
        """Return the program, which allows what it has not refused."""
        self.add((RETURN, ALLOW))
        return b"".join(self._code)


def _filter(*, bare: bool) -> bytes:
    """Return the program; without namespaces (not `bare`) it has more to forbid."""
    program = _Filter()
    program.refuse(FORBIDDEN, errno.EPERM)
    program.refuse(UNCOUNTED | {"clone3": CLONE3}, errno.ENOSYS)  # libc falls back to clone
    program.refuse_if(CLONE, FIRST, errno.EPERM, (IF_ANY_BIT, NEW_NAMESPACE, 0, 1))
    program.refuse_if(PRCTL, FIRST, errno.EPERM, (IF_EQUAL, PR_SET_DUMPABLE, 0, 1))
    for code in STEAL_INPUT:
        program.refuse_if(IOCTL, SECOND, errno.EPERM, (IF_EQUAL, code, 0, 1))
    both = SHARED_AND_ANONYMOUS
    program.refuse_if(MMAP, FOURTH, errno.EPERM, (MASK, both), (IF_EQUAL, both, 0, 1))
    if not bare:
        program.refuse(METADATA, 0)
        program.refuse({"socket": SOCKET}, errno.EAFNOSUPPORT)  # Landlock lets them reach files
    for call in (SOCKET, SOCKETPAIR):
        program.refuse_if(call, FIRST, errno.EAFNOSUPPORT, (IF_EQUAL, UNIX_SOCKET, 1, 0))
    return program.bytes()


def landlock_version() -> int:
    """Return the kernel's version of Landlock; below 1 there is none."""
    return LIBC.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)


def _ruleset(read: list[str], write: list[str]) -> int:
    version = landlock_version()
    if version < 3:
        raise OSError(errno.ENOSYS, f"the kernel has Landlock {max(version, 0)} and not 3")
    rights = (1 << 15) - 1 | (IOCTL_DEVICE if version >= 5 else 0)
    attributes = struct.pack("QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    made = LIBC.syscall(LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    ruleset = _call(made, "Landlock")
    for path in (*read, *OF_SYSTEM):
        _allow(ruleset, path, EXECUTE | READ | LIST)
    for path in DEVICES:
        _allow(ruleset, path, READ | WRITE | TRUNCATE)
    changes = EXECUTE | READ | WRITE | CHANGE | REFER | TRUNCATE
    _allow(ruleset, "/dev/shm", changes)  # without it multiprocessing has no locks
    for path in write:
        _allow(ruleset, path, changes | LIST)
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= EXECUTE | WRITE | READ | TRUNCATE
    rule = struct.pack("=Qi", rights, place)
    _call(LIBC.syscall(LANDLOCK_ADD, ruleset, 1, rule, 0), f"Landlock of {path}")
    os.close(place)


def _call(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def main() -> None:
    """Confine this process as `argv[1]` says, and print what came of it."""
    try:
        Confinement(json.loads(sys.argv[1])).enter()
        answer = {"held": os.getpid(), "landlock": landlock_version()}
    except OSError as error:
        answer = {"failed": error.strerror or str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

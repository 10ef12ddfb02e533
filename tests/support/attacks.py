"""What hostile code may try in a sandbox, and what honest code must be able to do, as data.

Each attack is a program. `attempt` says BREACH when it gets something, HELD when it does not;
whoever runs it also looks whether canaries, listeners and processes of the host are untouched.
Words in «» are replaced by what there is on the host to attack.
"""

from dataclasses import dataclass

PRELUDE = """
import contextlib, ctypes, json, os, signal, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
DATASET = os.environ["TRAINABLE_DATASET"]
def breach(what): print("BREACH", str(what)[:200], flush=True)
def held(why=""): print("HELD", str(why)[:200], flush=True)
def attempt(what, function):
    try: value = function()
    except BaseException as error: return held(f"{what}: {error!r}")
    breach(f"{what}: {value!r}") if value or value == 0 and value is not False else held(what)
def text(path): return open(path, "rb").read(1 << 20)
def put(path): return lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)) or 1
def call(name, *arguments):
    result = libc.syscall(*arguments)
    breach(name) if result >= 0 else held(f"{name}: {os.strerror(ctypes.get_errno())}")
"""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A program and how it has to end."""

    name: str
    code: str
    limit: str | None = None
    """The limit that has to end it."""
    prints: str | None = None
    """What it has to print; None for HELD, unless a limit ends it."""
    exit_code: int | None = None
    then: str = "print('usable')"
    """What runs after it in the same box, and must be none the worse for it."""
    timeout: float = 30.0
    slow: bool = False
    """Whether it is left out of the short form."""
    bites: bool = False
    """Whether it has to succeed where there are no walls."""
    only: tuple[str, ...] = ()
    """The levels that it is meant for; all by default."""


def _files() -> dict[str, str]:
    return {
        "read-canary": 'attempt("canary", lambda: text("«canary»"))',
        "read-canary-by-link": 'os.symlink("«canary»", "l"); attempt("link", lambda: text("l"))',
        "read-canary-by-hard-link": 'attempt("link", lambda: os.link("«canary»", "h") or text("h"))',
        "read-other-session": 'attempt("read", lambda: text("«other»/secret.txt"))',
        "list-other-session": 'attempt("list", lambda: os.listdir("«other»"))',
        "list-volume": 'attempt("list", lambda: os.listdir("«volume»"))',
        "read-other-dataset": 'attempt("read", lambda: text("«volume»/datasets/other/data.csv"))',
        "list-host-folder": 'attempt("list", lambda: os.listdir("«base»"))',
        "read-memory-of-host": 'attempt("mem", lambda: os.open("/proc/«host»/mem", os.O_RDWR))',
        "read-environment-of-host": 'attempt("env", lambda: text("/proc/«host»/environ"))',
        "read-files-of-host": 'attempt("fds", lambda: os.listdir("/proc/«host»/fd"))',
        "follow-root-of-host": 'attempt("root", lambda: text("/proc/«host»/root«canary»"))',
        "follow-folder-of-host": 'attempt("cwd", lambda: os.listdir("/proc/«host»/cwd/"))',
        "write-canary": 'attempt("write", put("«canary»"))',
        "truncate-canary": 'attempt("cut", lambda: os.truncate("«canary»", 0) or 1)',
        "delete-canary": 'attempt("delete", lambda: os.unlink("«canary»") or 1)',
        "rename-over-canary": (
            'open("x", "w").close(); attempt("rename", lambda: os.rename("x", "«canary»") or 1)'
        ),
        "write-other-session": 'attempt("write", put("«other»/mine"))',
        "write-host-tmp": 'attempt("write", put("«base»/mine"))',
        "send-signal-to-host": 'attempt("kill", lambda: os.kill(«process», 9) or 1)',
        "probe-host-process": 'attempt("kill", lambda: os.kill(«host», 0) or 1)',
        "connect-tcp": 'attempt("tcp", lambda: socket.create_connection(("127.0.0.1", «tcp»), 2))',
        "connect-tcp6": 'attempt("tcp6", lambda: socket.create_connection(("::1", «tcp6»), 2))',
        "send-udp": (
            "attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
            ".sendto(b'x', ('127.0.0.1', «udp»)))"
        ),
        "connect-socket-file": (
            "attempt('unix', lambda: socket.socket(socket.AF_UNIX).connect('«socket»') or 1)"
        ),
        "connect-abstract-socket": (
            "attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect('\\0«abstract»') or 1)"
        ),
        "write-home-of-host": 'attempt("write", put("«home»/mine"))',
    }


BITING = tuple(
    Attack(name=name, code=code, bites=name != "list-volume")
    for name, code in _files().items()
    if name != "read-canary-by-hard-link"
)
"""Attacks on what an ordinary program of the same user could reach."""

READING = {
    "read-canary-by-hard-link": _files()["read-canary-by-hard-link"],
    "read-passwords": 'attempt("shadow", lambda: text("/etc/shadow"))',
    "read-keys": """
for name in (".ssh", ".aws", ".config", ".claude", ".modal.toml", ".netrc", ".trainable"):
    for home in ("/root", "«home»"):
        attempt(name, lambda: os.listdir(f"{home}/{name}"))""",
    "read-raw-disk": """
def names(folder):
    try: return os.listdir(folder)
    except PermissionError: return []
for name in [*names("/dev"), "sda", "vda", "nvme0n1", "dm-0", "loop0", "tty1", "input/event0"]:
    if name not in ("null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr",
                    "shm", "pts", "ptmx", "tty", "core", "console"):
        attempt(name, lambda: os.read(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK), 16))
held()""",
    "read-kernel": """
for path in ("/dev/mem", "/dev/kmsg", "/proc/kcore", "/proc/kmsg", "/proc/1/environ",
             "/proc/sys/kernel/core_pattern/x", "/sys/kernel/debug/x", "/proc/1/mem"):
    attempt(path, lambda: os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 16))""",
    "read-environments": """
for name in map(str, [1, os.getppid(), «host», *range(2, 3000)]):
    with contextlib.suppress(OSError):
        if b"«secret»" in text(f"/proc/{name}/environ"): breach(name)
secrets = ("ANTHROPIC", "AWS_", "MODAL_", "DATABASE_URL", "SECRET")
attempt("names", lambda: [name for name in os.environ if any(s in name for s in secrets)])""",
    "read-commands": """
found = []
with contextlib.suppress(PermissionError):
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if b"«tag»" in text(f"/proc/{name}/cmdline"): found.append(name)
attempt("commands", lambda: found)""",
    "look-for-canary": """
found = []
for top in ("/tmp", "/home", "/root", "/var", "/mnt", "/srv", "/opt", "/data", "/run", "/media",
            "/proc/1/root", "/proc/self/root/tmp", "..", "/var/tmp"):
    for folder, folders, files in os.walk(top):
        if folder.count("/") > 7: folders[:] = []
        found += [name for name in files if "«tag»" in name or name == "secret.txt"]
attempt("found", lambda: found)""",
    "read-driver": """
for pid in {os.getppid(), 1}:
    attempt("memory", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR))
    attempt("files", lambda: os.listdir(f"/proc/{pid}/fd"))
    attempt("environment", lambda: text(f"/proc/{pid}/environ"))
    attempt("stack", lambda: text(f"/proc/{pid}/syscall"))""",
    "use-open-descriptors": """
records = int(os.environ["TRAINABLE_RECORDS"])
def others():
    for number in range(3, 5000):
        with contextlib.suppress(OSError):
            if number != records and os.fstat(number): yield number
attempt("descriptors", lambda: list(others()))""",
    "read-records-back": 'attempt("read", lambda: os.read(int(os.environ["TRAINABLE_RECORDS"]), 9))',
    "climb-out": """
for path in ("../../../../../..«canary»", "/proc/self/cwd/../../../..«canary»",
             "/proc/self/root«canary»", "/proc/thread-self/root«canary»", "/dev/fd/../../..«canary»"):
    attempt(path, lambda: text(path))""",
}
WRITING = {
    "write-system": """
folders = ("/", "/etc", "/usr", "/usr/lib", "/usr/local/bin", "/var/tmp", "/home", "/opt", "/bin",
           "/lib", "/sys", "/proc", "/dev", "/root", "/run")
for folder in folders: attempt(folder, put(f"{folder}/«tag»"))""",
    "write-python": """
import numpy
for path in (sys.executable, os.__file__, numpy.__file__, sys.modules["trainable"].__file__
             if "trainable" in sys.modules else os.__file__):
    attempt(path, put(path))
for folder in (sys.prefix, os.path.dirname(os.__file__), os.path.dirname(numpy.__file__)):
    attempt(folder, put(f"{folder}/«tag».py"))""",
    "write-sdk": """
import trainable
attempt("sdk", put(trainable.__file__))
attempt("replace", lambda: os.rename("x", trainable.__file__) or 1)
attempt("beside", put(os.path.dirname(trainable.__file__) + "/numpy.py"))""",
    "write-dataset": """
path = f"{DATASET}/data.csv"
assert b"a,b" in text(path)
attempt("write", put(path))
attempt("delete", lambda: os.unlink(path) or 1)
attempt("beside", put(f"{DATASET}/more"))
attempt("link", lambda: os.link(path, "linked") or put("linked")())
with contextlib.suppress(OSError): os.chmod(path, 0o777)
attempt("mode", lambda: stat.S_IMODE(os.stat(path).st_mode) == 0o777)
with contextlib.suppress(OSError): os.utime(path, (0, 0))
attempt("time", lambda: os.stat(path).st_mtime == 0)""",
    "write-over-own-descriptor": """
number = os.open(f"{DATASET}/data.csv", os.O_RDONLY)
attempt("reopen", lambda: os.open(f"/proc/self/fd/{number}", os.O_WRONLY))
attempt("truncate", lambda: os.ftruncate(number, 0) or 1)""",
    "move-dataset": """
attempt("move", lambda: os.rename(DATASET, "mine") or 1)
attempt("move stage", lambda: os.rename(os.getcwd(), os.getcwd() + "x") or 1)
attempt("beside", lambda: os.mkdir("../extra") or 1)""",
    "write-control-files": """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches",
             "/proc/sys/kernel/hostname", "/proc/sys/fs/file-max", "/proc/self/uid_map",
             "/sys/fs/cgroup/pids/release_agent", "/sys/devices/system/cpu/cpu0/online"):
    def write():
        number = os.open(path, os.O_WRONLY)
        return os.write(number, b"0 0 1" if path.endswith("map") else b"x")
    attempt(path, write)
attempt("cgroup", lambda: os.mkdir("/sys/fs/cgroup/«tag»") or 1)
attempt("score", lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000"))""",
}
KERNEL = {
    "forbidden-calls": """
for name, number in «calls»:
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() not in (1, 38):
        breach(f"{name}: {os.strerror(ctypes.get_errno())}")
held()""",
    "new-namespaces": """
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x80):
    call("unshare", «unshare», flag)
    if flag != 0x80: call("clone", «clone», flag | 17, 0, 0, 0, 0)
block = ctypes.create_string_buffer(struct.pack("Q", 0x10000000), 88)
call("clone3", 435, block, 88)""",
    "become-root": """
attempt("setuid", lambda: os.setuid(0) or os.getuid() == 0)
attempt("setresgid", lambda: os.setresgid(0, 0, 0) or 1)
attempt("groups", lambda: os.setgroups([0]) or 1)
for command in (["su", "-c", "id"], ["sudo", "-n", "id"], ["pkexec", "id"], ["newgrp", "root"]):
    def run():
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5)
        return b"uid=0" in done.stdout
    attempt(command[0], run)""",
    "status-of-process": """
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
    attempt(name, lambda: int(status[name], 16) or None)
attempt("no new privileges", lambda: status["NoNewPrivs"].strip() != "1")
attempt("filter", lambda: status["Seccomp"].strip() != "2")
attempt("root", lambda: os.getuid() == 0)""",
    "make-device": """
for kind in (stat.S_IFBLK, stat.S_IFCHR):
    attempt("mknod", lambda: os.mknod("device", 0o600 | kind, os.makedev(254, 0)) or 1)""",
    "set-user-bit": """
import shutil
shutil.copy("/bin/sh", "shell")
with contextlib.suppress(OSError): os.chmod("shell", 0o6755)
out = ""
with contextlib.suppress(PermissionError):
    out = subprocess.run(["./shell", "-c", "id -u"], capture_output=True, text=True).stdout
attempt("suid", lambda: out.strip() == "0")""",
    "raise-limits": """
import resource
for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_DATA):
    soft, hard = resource.getrlimit(kind)
    attempt("raise", lambda: resource.setrlimit(kind, (hard + 1, hard + 1)) or 1)
    attempt("endless", lambda: resource.setrlimit(kind, (-1, -1)) or 1)
attempt("nice", lambda: os.nice(-5) or 1)
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) or 1)""",
    "type-into-terminal": """
import fcntl, pty
attempt("tty", lambda: os.open("/dev/tty", os.O_RDWR))
try:
    master, slave = pty.openpty()
    for code in (0x5412, 0x541C): attempt("type", lambda: fcntl.ioctl(slave, code, b"x") == 0)
except OSError as error: held(error)""",
    "hide-from-driver": 'call("dumpable", «prctl», 4, 0, 0, 0, 0)',
    "share-anonymous-memory": """
import mmap
attempt("mmap", lambda: len(mmap.mmap(-1, 4096)))""",
    "old-system-calls": """
import mmap, platform
if platform.machine() != "x86_64": held("another machine"); sys.exit()
pid = os.fork()
if pid == 0:
    code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # getpid of 32 bits
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    got = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    os._exit(0 if got > 0 else 1)
attempt("32 bits", lambda: os.waitpid(pid, 0)[1] == 0)
attempt("x32", lambda: libc.syscall(0x40000000 | 39) > 0)""",
    "trace-own-child": """
pid = os.fork()
if pid == 0: time.sleep(60)
call("attach", «ptrace», 16, pid, 0, 0)
os.kill(pid, 9)""",
    "open-other-sockets": """
for family in (2, 10, 16, 17, 29, 31, 38, 40, 44):
    for kind in (1, 2, 3):
        attempt(f"family {family}", lambda: socket.socket(family, kind).fileno())
attempt("pair", lambda: socket.socketpair(socket.AF_INET)[0].fileno())
attempt("listen", lambda: socket.create_server(("0.0.0.0", 0)).fileno())
attempt("name", lambda: socket.getaddrinfo("example.com", 80))""",
    "fetch-with-programs": """
for command in (["curl", "-sSm2", "http://127.0.0.1:«tcp»"], ["wget", "-qT2", "-O-", "127.0.0.1:«tcp»"],
                ["bash", "-c", "echo > /dev/tcp/127.0.0.1/«tcp»"]):
    def run(): return subprocess.run(command, capture_output=True, timeout=9).returncode == 0
    attempt(command[0], run)""",
}
FLAWLESS = tuple(
    Attack(name=name, code=code)
    for group in (READING, WRITING, KERNEL)
    for name, code in group.items()
)
"""Attacks that a single program makes by itself."""

DETACH = """
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    for number in (0, 1, 2): os.dup2(os.open("/dev/null", os.O_RDWR), number)
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)  # left-«session»"])
os.wait()
"""
PROCESSES = (
    Attack(name="leave-daemon", code=DETACH + "held()"),
    Attack(name="leave-many", code=f"for _ in range(8):\n    exec({DETACH!r})\nheld()", slow=True),
    Attack(
        name="leave-daemon-at-timeout", code=DETACH + "time.sleep(600)", limit="wall", timeout=2
    ),
    Attack(
        name="leave-reader-of-output",
        code="if os.fork() == 0:\n    os.setsid(); time.sleep(600)\nheld()",
    ),
    Attack(
        name="adopt-orphans",
        code="libc.prctl(36, 1, 0, 0, 0)\n" + DETACH + "os.setsid() if 0 else held()",
    ),
    Attack(
        name="stop-itself",
        code="os.kill(os.getpid(), signal.SIGSTOP)",
        limit="wall",
        timeout=1.5,
    ),
    Attack(
        name="ignore-signals",
        code="""
for number in range(1, 65):
    with contextlib.suppress(OSError, ValueError): signal.signal(number, signal.SIG_IGN)
while True: pass""",
        limit="wall",
        timeout=1.5,
    ),
    Attack(
        name="kill-everybody",
        code="signal.signal(15, signal.SIG_IGN)\n\nwith contextlib.suppress(OSError): os.kill(-1, 15)\nheld()",
        only=("bubblewrap", "namespaces"),
    ),
    Attack(
        name="kill-driver",
        code="for number in (15, 19, 9):\n    with contextlib.suppress(OSError):"
        " os.kill(os.getppid(), number)\nheld()",
        only=("bubblewrap", "namespaces", "landlock"),
    ),
    Attack(
        name="fork-bomb",
        code="""
while True:
    try: os.fork()
    except OSError: time.sleep(0.01)""",
        limit="processes",
        slow=True,
    ),
    Attack(
        name="thread-bomb",
        code="""
while True:
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()""",
        limit="processes",
    ),
    Attack(
        name="many-zombies",
        code="""
for _ in range(20_000):
    try:
        if os.fork() == 0: os._exit(0)
    except OSError: time.sleep(0.01)
while True: time.sleep(1)""",
        limit="processes",
        slow=True,
        only=("bubblewrap", "namespaces", "landlock"),
    ),
)
WRITE = "def fill(path, blocks):\n    with open(path, 'wb', 0) as file:\n" + (
    "        for _ in range(blocks): file.write(os.urandom(1 << 16) * 16)\n"
)
LIMITS = (
    Attack(name="sleep", code="time.sleep(600)", limit="wall", timeout=1.5),
    Attack(name="burn-cpu", code="while True: pass", limit="cpu", timeout=60),
    Attack(
        name="burn-cpu-in-children",
        code="for _ in range(6): os.fork()\nwhile True: pass",
        limit="cpu",
        timeout=60,
    ),
    Attack(
        name="burn-cpu-in-short-children",
        code="""
while True:
    pid = os.fork()
    if pid == 0:
        end = time.process_time() + 0.2
        while time.process_time() < end: pass
        os._exit(0)
    os.waitpid(pid, 0)""",
        limit="cpu",
        timeout=60,
    ),
    Attack(
        name="fill-memory", code="x = []\nwhile True: x.append(b'x' * (8 << 20))", limit="memory"
    ),
    Attack(name="ask-for-memory", code="x = bytearray(1 << 40)", limit="memory"),
    Attack(
        name="fill-memory-in-children",
        code="""
for _ in range(5):
    if os.fork() == 0: break
x = []
for _ in range(40): x.append(os.urandom(4 << 20))
time.sleep(600)""",
        limit="memory",
    ),
    Attack(
        name="fill-shared-memory",
        code=WRITE + "for n in range(90): fill(f'/dev/shm/«tag»{n}', 8)\ntime.sleep(600)",
        limit="disk",
        only=("bubblewrap", "namespaces"),
    ),
    Attack(
        name="fill-tmp",
        code=WRITE + "for n in range(90): fill(f'/tmp/{n}', 8)\ntime.sleep(600)",
        limit="disk",
        only=("bubblewrap", "namespaces"),
    ),
    Attack(
        name="fill-tmp-with-files",
        code="for n in range(50_000): open(f'/tmp/{n}', 'w').close()",
        limit="inodes",
        exit_code=1,
        only=("namespaces",),
    ),
    Attack(name="one-big-file", code=WRITE + "fill('big', 600)", limit="file_size"),
    Attack(
        name="sparse-file",
        code="os.truncate(os.open('s', os.O_CREAT | os.O_RDWR), 1 << 42)",
        limit="file_size",
    ),
    Attack(
        name="many-files",
        code=WRITE + "for n in range(20): fill(f'f{n}', 9)\ntime.sleep(600)",
        limit="disk",
    ),
    Attack(
        name="hidden-files",
        code=WRITE
        + "os.makedirs('.a/__pycache__')\nfor n in range(20): fill(f'.a/__pycache__/{n}', 9)\n"
        + "time.sleep(600)",
        limit="disk",
    ),
    Attack(
        name="files-in-home",
        code=WRITE + "os.chdir(os.path.expanduser('~'))\n"
        "for n in range(20): fill(f'f{n}', 9)\ntime.sleep(600)",
        limit="disk",
    ),
    Attack(
        name="files-without-names",
        code=WRITE + "kept = []\nfor n in range(20):\n    kept.append(open('f', 'ab'))\n"
        "    fill('f', 9)\n    os.unlink('f')\ntime.sleep(600)",
        limit="disk",
    ),
    Attack(
        name="files-in-closed-folder",
        code=WRITE + "os.mkdir('d')\nfor n in range(20): fill(f'd/{n}', 2)\n"
        "os.chmod('d', 0)\ntime.sleep(600)",
        limit="disk",
        only=("bubblewrap", "namespaces"),
    ),
    Attack(
        name="files-beyond-the-longest-path",
        code="for n in range(60):\n    os.mkdir('d' * 200); os.chdir('d' * 200)\ntime.sleep(600)",
        limit="disk",
    ),
    Attack(
        name="many-small-files",
        code="for n in range(9000): open(f'f{n}', 'w').close()\ntime.sleep(600)",
        limit="inodes",
    ),
    Attack(
        name="many-folders",
        code="for n in range(9000): os.mkdir(f'f{n}')\ntime.sleep(600)",
        limit="inodes",
        slow=True,
    ),
    Attack(
        name="quick-many-files",
        code="for n in range(6000): os.close(os.open(f'f{n}', os.O_CREAT))",
        limit="inodes",
        exit_code=-9,
    ),
    Attack(
        name="flood-output", code="while True: os.write(1, b'x' * 65536 + b'\\n')", limit="output"
    ),
    Attack(name="flood-errors", code="while True: os.write(2, b'x' * 65536)", limit="output"),
    Attack(
        name="flood-from-child",
        code="subprocess.run(['yes'], stdout=1)",
        limit="output",
    ),
    Attack(
        name="flood-records",
        code="from trainable import log\nwhile True: log(1, {'a': 1.0})",
        limit="output",
    ),
    Attack(
        name="record-without-end",
        code="while True: os.write(int(os.environ['TRAINABLE_RECORDS']), b'm' * 65536)",
        limit="output",
    ),
)
PLANT = """
import site
for folder in {site.getusersitepackages(), os.path.expanduser("~"), os.path.expanduser("~/.local")}:
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        for name in ("usercustomize.py", "sitecustomize.py", "json.py", "x.pth", "numpy.py"):
            open(f"{folder}/{name}", "w").write("import sys; print('BREACH planted')\\n")
open("matplotlibrc", "w").write("backend: module://planted")
held()"""
RECORDS = (
    Attack(
        name="plant-modules-for-later",
        code=PLANT,
        then="import json, subprocess, sys\n"
        "subprocess.run([sys.executable, '-P', '-c', 'import json, numpy'], check=True)",
    ),
    Attack(
        name="forge-by-printing",
        code="""
print('m[1,{"accuracy":0.99},null]')
print(json.dumps({"k": "r", "d": 'm[1,{"accuracy":0.99},null]\\n'}))
print(json.dumps({"k": "end", "code": 0, "seconds": 0, "limit": None}), file=sys.stderr)
held()""",
    ),
    Attack(
        name="strange-records",
        code="""
records = int(os.environ["TRAINABLE_RECORDS"])
lines = ["m", "m[", "m[1]", "mnull", "m[1e999,{},null]", 'm[1,{"a":NaN},null]', "c" + "[" * 99_999,
         "m" + "[" * 50_000, 'm[1,{"a":' + "9" * 5000 + "},null]", "x", "", 'm[1,{"\\\\ud800":1},null]',
         'm[true,{"a":1},null]', 'm["1",{"a":1},null]', 'm[1,[],null]', 'c{"a":1}', "\\udcff"]
os.write(records, "\\n".join(lines).encode("utf-8", "surrogateescape") + b"\\nm\\xff\\x00\\n")
from trainable import log
log(7, {"inf": float("inf"), "n" * 10_000: 1.0, "<script>": 2.0, "line\\nbreak": 3.0})
held()""",
    ),
    Attack(
        name="strange-names-of-files",
        code="""
for name in (b"\\xff\\xfe", b"a\\nb", b"\\x1b[2J", "‮gnp.exe".encode(), b"back\\\\slash", b"-rf",
             b" ", b"%00", "\U0001f600.png".encode(), b"n" * 255):
    with contextlib.suppress(OSError): open(name, "w").close()
time.sleep(0.4)
held()""",
    ),
    Attack(
        name="strange-output",
        code="""
os.write(1, bytes(range(256)) + b"\\x1b]0;title\\x07\\x1b[2J" + "\\ud7ff".encode("utf-8"))
os.write(2, b"\\xf0\\x9f"); os.write(2, b"\\x98\\x80\\xed\\xa0\\x80\\0")
held()""",
    ),
    Attack(
        name="links-for-the-host",
        code="""
for number, target in enumerate(("«canary»", "«other»", "/", "/proc/self", "..", "link4")):
    os.symlink(target, f"link{number}")
os.symlink("«canary»", "report.md"); os.makedirs("data"); os.symlink("«canary»", "data/x.json")
with contextlib.suppress(OSError): os.mkfifo("figure.png")
with contextlib.suppress(OSError): socket.socket(socket.AF_UNIX).bind("socket.png")
with contextlib.suppress(OSError): os.link(f"{DATASET}/data.csv", "hard.csv")
held()""",
    ),
    Attack(
        name="swap-under-the-host",
        code="""
held()
end = time.monotonic() + 1.5
while time.monotonic() < end:
    with contextlib.suppress(OSError):
        open("report.md", "w").close(); os.unlink("report.md")
        os.symlink("«canary»", "report.md"); os.unlink("report.md")""",
    ),
)


def _works() -> dict[str, tuple[str, str]]:
    pools = "bubblewrap namespaces"
    return {
        "hello": ("print('sum', 6 * 7)", "sum 42"),
        "files": (
            "os.makedirs('a/b'); open('a/b/c', 'w').write('x'); print('size', os.stat('a/b/c').st_size)",
            "size 1",
        ),
        "dataset": ("print(open(f'{DATASET}/data.csv').read())", "a,b"),
        "temporary-files": (
            "import tempfile\nwith tempfile.TemporaryDirectory() as d:\n"
            "    open(d + '/x', 'w').write('y'); print('in', os.listdir(d))",
            "in ['x']",
        ),
        "shell": ("subprocess.run('echo one; ls -la | wc -l; id', shell=True)", "uid="),
        "child-python": (
            "subprocess.run([sys.executable, '-P', '-c', 'import numpy; print(\"np\", numpy.sum([1, 2]))'])",
            "np 3",
        ),
        "threads": (
            "from concurrent.futures import ThreadPoolExecutor as T\n"
            "print('t', sum(T(4).map(abs, range(9))))",
            "t 36",
        ),
        "pool-fork": (
            "import multiprocessing as m\nwith m.Pool(2) as p: print('p', p.map(abs, [-1]))",
            "p [1]",
        ),
        "pool-spawn": (
            "import multiprocessing as m\n"
            "if __name__ == '__main__':\n"
            "    with m.get_context('spawn').Pool(2) as p: print('p', p.map(abs, [-1]))",
            "p [1]",
        ),
        "queue-and-value": (
            "import multiprocessing as m\nq = m.Queue(); v = m.Value('i', 1)\n"
            "def f(): v.value += 1; q.put('got')\n"
            "c = m.Process(target=f); c.start(); print(q.get(), end=' '); c.join(); print(v.value)",
            "got 2",
        ),
        "shared-memory": (
            "from multiprocessing.shared_memory import SharedMemory as S\n"
            "s = S(create=True, size=9); s.buf[0] = 7; t = S(name=s.name); print('s', t.buf[0])\n"
            "t.close(); s.close(); s.unlink()",
            "s 7",
        ),
        f"manager/{pools}": (
            "import multiprocessing as m\nwith m.Manager() as g: d = g.dict(); d[1] = 2; print('d', dict(d))",
            "d {1: 2}",
        ),
        "joblib": (
            "from joblib import Parallel, delayed\nprint('j', Parallel(2)(delayed(abs)(-i) for i in range(3)))",
            "j [0, 1, 2]",
        ),
        "asyncio": (
            "import asyncio\nasync def f():\n"
            "    p = await asyncio.create_subprocess_exec('echo', 'sub'); await p.wait(); print('a')\n"
            "asyncio.run(f())",
            "a",
        ),
        "sqlite": (
            "import sqlite3\nc = sqlite3.connect('d.db'); c.execute('create table t(a)')\n"
            "c.execute('insert into t values (3)'); c.commit(); print('q', *c.execute('select a from t'))",
            "q (3,)",
        ),
        "home-and-user": (
            "import getpass\np = os.path.expanduser('~/x'); open(p, 'w').write('1')\n"
            "print('home', bool(getpass.getuser()))",
            "home True",
        ),
        "copies-with-metadata": (
            "import shutil\nopen('a', 'w').write('1'); shutil.copy2('a', 'b'); os.chmod('b', 0o600)\n"
            "shutil.copytree(DATASET, 'tree'); os.symlink('a', 'c'); print('copied', open('c').read())",
            "copied 1",
        ),
        "clock-and-zone": (
            "import zoneinfo, datetime\nz = zoneinfo.ZoneInfo('Europe/Berlin')\n"
            "print('z', datetime.datetime(2024, 7, 1, tzinfo=z).utcoffset())",
            "z 2:00:00",
        ),
        "signals": (
            "def rang(*_): print('rang')\nsignal.signal(14, rang); signal.alarm(1); signal.pause()",
            "rang",
        ),
        "own-status": (
            "print('threads' if 'Threads' in open('/proc/self/status').read() else 0)",
            "threads",
        ),
        "records": (
            "from trainable import log\nfor i in range(5): log(i, {'loss': 0.5})\nprint('logged')",
            "logged",
        ),
        "exit-code-3": ("print('x'); sys.exit(3)", "x"),
        "exception-1": ("print('before', flush=True); 1 / 0", "before"),
        "hundred-megabytes": ("x = os.urandom(100 << 20); print('got', len(x))", "got 104857600"),
        "table": (
            "import pandas as pd, duckdb\npd.DataFrame({'a': range(1000)}).to_parquet('t.parquet')\n"
            "print('sum', duckdb.sql(\"select sum(a) from 't.parquet'\").fetchall())",
            "sum [(499500",
        ),
        "figure": (
            "import matplotlib.pyplot as p\np.plot([1, 2]); p.savefig('f.png'); print('png', os.stat('f.png').st_size > 99)",
            "png True",
        ),
        "model": (
            "from sklearn.ensemble import HistGradientBoostingClassifier as H\nimport numpy as n, pickle, joblib\n"
            "x = n.random.rand(300, 4); m = H(max_iter=5).fit(x, x[:, 0] > 0.5)\n"
            "joblib.dump(m, 'm.pkl'); print('fit', joblib.load('m.pkl').score(x, x[:, 0] > 0.5) > 0.9)",
            "fit True",
        ),
    }


def _must_work() -> tuple[Attack, ...]:
    found: list[Attack] = []
    for name, (code, prints) in _works().items():
        name, _, levels = name.partition("/")
        exit_code = int(name[-1]) if name[-1].isdigit() else 0
        found.append(
            Attack(
                name=f"works-{name}",
                code=code,
                prints=prints,
                exit_code=exit_code,
                timeout=120,
                slow=name in ("table", "figure", "model", "joblib"),
                only=tuple(levels.split()),
            )
        )
    return tuple(found)


ATTACKS = (*BITING, *FLAWLESS, *PROCESSES, *LIMITS, *RECORDS, *_must_work())

"""Lets root run a command as an ordinary user who can reach this Python and this repository."""

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

USER = 65_534
ROOT = Path(__file__).parents[2]


def as_user(command: list[str]) -> list[str]:
    """Return the command that does it, in a mount namespace where closed folders are open.

    A folder that only root may enter (`/root`, say) is covered with one that has nothing but what
    Python needs of it.
    """
    script = ["set -e", f"aside=$(mktemp -d -p {tempfile.gettempdir()})"]
    needed = {Path(path) for path in (sys.prefix, sys.base_prefix, ROOT)}
    needed |= {path.resolve() for path in needed}
    for closed in sorted(set(_closed(needed)), key=lambda path: len(path.parts)):
        inside = sorted(path for path in needed if closed in path.parents)
        for number, path in enumerate(inside):
            script += [f"mkdir -p $aside/{number}", f"mount --bind {_quote(path)} $aside/{number}"]
        script += [f"mount -t tmpfs -o mode=755 tmpfs {_quote(closed)}"]
        for number, path in enumerate(inside):
            script += [f"mkdir -p {_quote(path)}", f"mount --bind $aside/{number} {_quote(path)}"]
    script += ["mkdir $aside/tmp", f"chown {USER}:{USER} $aside/tmp", "chmod 755 $aside"]
    setpriv = f"setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all"
    script += [
        "set +e",
        f"env HOME=$aside/tmp TMPDIR=$aside/tmp {setpriv} {shlex.join(command)}",
        "code=$?",
        "rm -rf $aside/tmp",
        "for each in $aside/*; do umount -l $each && rmdir $each; done",
        "rmdir $aside; exit $code",
    ]
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", "\n".join(script)]


def _closed(paths: set[Path]) -> Iterator[Path]:
    for path in paths:
        for parent in path.parents:
            if not parent.stat().st_mode & 0o001:
                yield parent


def _quote(path: Path) -> str:
    return shlex.quote(str(path))


if __name__ == "__main__":
    command = as_user(sys.argv[1:])
    os.execvp(command[0], command)

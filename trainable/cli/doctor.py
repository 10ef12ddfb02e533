"""Prints what works on this machine, and whether that is enough for the demo."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict

from pydantic_core import to_json
from rich.table import Table
from rich.text import Text

import trainable
from trainable.cli.check import (
    Check,
    check_extras,
    check_isolation,
    check_names,
    check_sandbox,
    check_store,
    check_volume,
)
from trainable.cli.console import mark, results
from trainable.cli.text import clean_line, count
from trainable.sandbox.local import LocalSandbox
from trainable.settings import Settings

LATER = ("Claude", "Modal", "S3")
MISSING = 3
"""Exit code when the demo would not work."""
SIGNS = {"ok": "done", "warning": "warning", "failed": "failed", "absent": "absent"}


def report(*, as_json: bool) -> int:
    """Print every check and return the exit code: 0 when the demo would work."""
    checks: list[Check] = []
    console = results()
    busy = console.status("Checking") if console.is_terminal and not as_json else nullcontext()
    with busy:
        for check in run_checks(Settings()):
            checks.append(check)
            if not as_json:
                console.print(_row(check))
    if as_json:
        sys.stdout.write(to_json([asdict(check) for check in checks]).decode() + "\n")
    else:
        console.print(Text("\n").append_text(verdict(checks)))
    return MISSING if any(check.state == "failed" for check in checks) else 0


def run_checks(settings: Settings) -> Iterator[Check]:
    """Do the checks, one after the other; they change nothing that is the user's."""
    yield Check(
        check="Python",
        state="ok",
        detail=f"{platform.python_version()}, trainable {trainable.__version__}",
    )
    yield from check_names(importlib.metadata.packages_distributions().get("trainable", []))
    yield check_store(settings)
    yield check_volume(settings)
    yield check_isolation()
    yield from check_sandbox(LocalSandbox(cache=settings.root / "cache"))
    yield check_extras()
    for name in LATER:
        yield Check(check=name, state="absent", detail="not part of this version")


def verdict(checks: Sequence[Check]) -> Text:
    """Return the last line: whether the demo would work."""
    states = [check.state for check in checks]
    parts = [
        count(states.count(state), word)
        for state, word in (("failed", "problem"), ("warning", "warning"))
        if state in states
    ]
    if "failed" in states:
        line = Text("Not ready: ", "bold").append("trainable demo would fail.", "not bold")
    else:
        line = Text("Ready: ").append("trainable demo", "bold").append(" works now.")
    return line.append(f" {', '.join(parts)}." if parts else "", "not bold")


def _row(check: Check) -> Table:
    """Return a check as columns that wrap by themselves."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=2)
    grid.add_column(width=12)
    grid.add_column(max_width=78)
    text = Text(clean_line(check.detail))
    if check.remedy:
        text.append(f"\n{clean_line(check.remedy)}", "dim")
    grid.add_row(mark(SIGNS[check.state]), check.check, text)
    return grid

"""What a sandbox must be able to do; `trainable.testing` holds the suite that every one passes."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from trainable.sandbox.limits import Limits


@dataclass(frozen=True)
class Output:
    """Text that code printed, as it came."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True)
class Record:
    """What code logged, unchecked.

    `metrics`: a list of `log` calls, each `[step, {name: value}, run]`; `charts`: what
    `configure_dashboard` was called with.
    """

    kind: Literal["metrics", "charts"]
    data: Any


@dataclass(frozen=True)
class Changed:
    """A file in the working directory was written; `path` is relative to that directory."""

    path: str
    size: int


Push = Callable[[Output | Record | Changed], Awaitable[None]]
"""Takes what running code does, in order; the code waits while it works."""


@dataclass(frozen=True, kw_only=True)
class CodeResult:
    """How code ended. Code that raises, or runs too long, is a result and no exception."""

    exit_code: int
    """As of the process; negative when a signal ended it."""
    seconds: float
    limit: str | None = None
    """The limit that ended it: a field of `Limits`, by its name."""
    restarted: str | None = None
    """Why the process that runs the code had to be started anew, in words; None when it was not."""

    @property
    def timed_out(self) -> bool:
        """Whether it ran longer than it was given."""
        return self.limit == "wall"


@dataclass(frozen=True, kw_only=True)
class BoxSpec:
    """What a box gets to see."""

    workdir: Path
    """Working directory of the code; the only place that it may write to."""
    readonly: tuple[Path, ...] = ()
    """Folders that the code may read: the dataset and the earlier stages."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """Added to the clean environment of the code."""
    preload: tuple[str, ...] | None = None
    """Packages imported once, before the first step; None for what the sandbox usually does."""
    trusted: bool = False
    """Whether the code is part of Trainable and may run without isolation."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class BoxInfo:
    """What kind of box it became."""

    backend: str
    isolation: str
    missing: tuple[str, ...]
    """Guarantees that this level of isolation does not give."""
    limits: Mapping[str, float]


class Box(Protocol):
    """One stage's place to run code; steps share its files and nothing else."""

    @property
    def info(self) -> BoxInfo:
        """What kind of box this is."""
        ...

    def inside(self, path: Path) -> str:
        """Return where code in the box finds what the host calls `path`."""
        ...

    async def run_code(self, code: str, *, script: Path, timeout: float, push: Push) -> CodeResult:
        """Run `code` as `__main__` in a fresh interpreter state; `script` is its `__file__`.

        `script` is a path of the host, as are those in the environment of the `BoxSpec`; the code
        gets to see `inside(path)`. Everything that the code prints, logs or writes is handed to
        `push` before this returns, the last lines of code that was killed included. Past `timeout`
        seconds, or over another limit, the code and all its descendants are killed, and the result
        says so.
        When this call is cancelled, they are killed before the cancellation leaves it.

        Raises:
            SandboxError: The box itself failed, not the code.
        """
        ...


class Sandbox(Protocol):
    """Makes boxes."""

    name: str

    def open(self, spec: BoxSpec) -> AbstractAsyncContextManager[Box]:
        """Return a context manager: a box on entry, nothing left running on exit.

        Raises:
            IsolationUnavailable: `spec.trusted` is false and no isolation level works.
            SandboxError: The box could not be started.
        """
        ...

"""The one thing that an agent must be able to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainable.events import Event
from trainable.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Brief:
    """Everything that an agent is told before it starts."""

    stage: Stage
    target: str | None = None
    task: str | None = None
    """`classification` or `regression`; None to find out."""
    group: str | None = None
    time: str | None = None
    instructions: str = ""
    """What the user wants, in their own words."""
    prompt: str | None = None
    """What the user said for this run."""
    context: str = ""
    """The report of the stage before."""
    workdir: Path
    """The stage's directory as the code sees it."""
    max_turns: int = 30


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What the agent gets to read of one `execute_code`."""

    text: str
    """Output of the code, clipped to 30,000 characters, head and tail."""
    exit_code: int
    timed_out: bool = False
    images: tuple[str, ...] = ()
    """Figures that the code wrote, relative to the working directory."""

    @property
    def ok(self) -> bool:
        """Whether the code ended without an error."""
        return self.exit_code == 0


class Workbench(Protocol):
    """All that an agent can do: speak, run code, and report on itself."""

    async def say(self, text: str) -> None:
        """Tell the user something, as markdown."""
        ...

    async def execute_code(self, code: str, name: str = "") -> StepResult:
        """Run Python in the sandbox and return what the agent should read.

        `name` becomes part of the script's file name; without it, it is taken from the code.
        """
        ...

    async def emit(self, event: Event) -> None:
        """Put an event of the agent's own into the log (`usage`, `agent_retry`, `notice` ...)."""
        ...


class Agent(Protocol):
    """Works on one brief at a workbench."""

    @property
    def name(self) -> str:
        """What it is called in events and lists."""
        ...

    @property
    def model(self) -> str | None:
        """The model behind it, if there is one."""
        ...

    @property
    def trusted(self) -> bool:
        """Whether its code is part of Trainable and may run without isolation."""
        ...

    async def work(self, brief: Brief, bench: Workbench) -> None:
        """Return when the stage's outputs are written; raise when they can't be.

        Raises:
            StageFailed: The agent gave up; `code` says why.
        """
        ...

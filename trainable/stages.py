"""The three stages, the order they run in, and the states a session can be in."""

from collections.abc import Collection
from enum import StrEnum

from trainable.errors import StageOrderError, UnknownStageError, nearest


class Stage(StrEnum):
    """A part of the pipeline; each needs the one before it."""

    EDA = "eda"
    PREP = "prep"
    TRAIN = "train"

    @property
    def requires(self) -> "Stage | None":
        """The stage that must be done first, or None for the first one."""
        order = list(Stage)
        position = order.index(self)
        return order[position - 1] if position else None

    @property
    def later(self) -> list["Stage"]:
        """The stages that build on this one."""
        order = list(Stage)
        return order[order.index(self) + 1 :]

    @property
    def label(self) -> str:
        """The name people read: EDA, Prep, Train."""
        return "EDA" if self is Stage.EDA else self.value.capitalize()


class RunState(StrEnum):
    """Where one execution of one stage stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


def parse_stage(name: "Stage | str") -> Stage:
    """Return the stage called `name`.

    Raises:
        UnknownStageError: There is no such stage; the nearest name is suggested.
    """
    try:
        return Stage(str(name).strip().lower())
    except ValueError:
        raise UnknownStageError(
            f"There is no stage {str(name)!r}.",
            remedy=nearest(str(name), list(Stage)) + "Stages are eda, prep and train.",
        ) from None


def check_can_start(stage: Stage, passed: Collection[Stage]) -> None:
    """Raise `StageOrderError` unless the stage that `stage` needs is in `passed`."""
    needed = stage.requires
    if needed is not None and needed not in passed:
        raise StageOrderError(
            f"{stage.label} needs a finished {needed.label}.",
            remedy=f"Run {needed.value!r} first, then {stage.value!r}.",
        )


def session_state(runs: Collection[tuple[Stage, RunState]]) -> str:
    """Return a session's state from its runs in the order they started.

    The latest run decides: `created`, `eda_running`, `prep_done`, `failed`, `cancelled` ...
    """
    if not runs:
        return "created"
    stage, state = list(runs)[-1]
    if state in (RunState.FAILED, RunState.CANCELLED):
        return state.value
    return f"{stage.value}_{state.value}"

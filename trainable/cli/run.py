"""Runs stages of a session to their end, shows them, and answers Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from trainable.cli.console import mute, people
from trainable.cli.live import Screen
from trainable.cli.summary import About
from trainable.cli.view import SessionView, reduce
from trainable.errors import RunError, TrainableError
from trainable.events import Event, UnknownEvent
from trainable.home import default_home
from trainable.runs import Run
from trainable.session import Session
from trainable.stages import Stage, check_can_start, parse_stage
from trainable.storage.runs import passed_stages

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is shown where."""

    json: bool = False
    """One event a line on stdout."""
    quiet: bool = False
    """Nothing on stderr but errors."""


def run_data(data: Sequence[str], stages: Sequence[str], output: Output, **options: Any) -> int:
    """Register data, run stages over it, and return the exit code.

    Raises:
        TrainableError: Something asked for makes no sense or is not there.
    """
    wanted = stages_in_order(stages, set())
    source = data[0] if len(data) == 1 else list(data)
    with _busy("Reading the data", output):
        session = Session(source, **options)
    return perform(session, wanted, output)


def run_demo(output: Output) -> int:
    """Run all stages over a dataset that scikit-learn ships, and return the exit code."""
    with _busy("Loading the data", output):
        from sklearn.datasets import load_breast_cancer

        loaded: Any = load_breast_cancer(as_frame=True)
        names: list[str] = list(loaded["target_names"])
        means = loaded["data"].filter(like="mean ")
        frame = means.assign(diagnosis=loaded["target"].map(names.__getitem__))
        session = Session(
            frame,
            target="diagnosis",
            name="breast-cancer",
            description="Breast cancer biopsies (scikit-learn)",
            agent="playbook",
            sandbox="local",
        )
    return perform(session, list(Stage), output)


def run_again(session_id: str, stages: Sequence[str], output: Output) -> int:
    """Run the stages of a session that are not done, or those named, and return the exit code."""
    session = Session.load(session_id)
    passed = passed_stages(default_home().database.runs(session.id))
    if stages:
        wanted = stages_in_order(stages, passed)
    else:
        wanted = [stage for stage in Stage if stage not in passed]
    return perform(session, wanted, output)


def stages_in_order(names: Sequence[str], passed: set[Stage]) -> list[Stage]:
    """Return the named stages in their order, all of them without a name.

    Raises:
        UnknownStageError: There is no such stage.
        StageOrderError: One of them needs a stage that is neither named nor in `passed`.
    """
    named = {parse_stage(name) for name in names} or set(Stage)
    wanted = [stage for stage in Stage if stage in named]
    done = set(passed)
    for stage in wanted:
        check_can_start(stage, done)
        done -= set(stage.later)
        done.add(stage)
    return wanted


def perform(session: Session, stages: Sequence[Stage], output: Output) -> int:
    """Run `stages` one after the other, showing them; return the exit code."""
    view = SessionView()
    for event in session.events():
        view = reduce(view, event)
    about = About.of(session, default_home())
    quiet = output.quiet or (output.json and sys.stdout.isatty())
    with Screen(about, view, quiet=quiet, moving=True) as screen:
        code = asyncio.run(_Conductor(session, screen, output).run(stages))
        if code == 0:
            last = stages[-1] if stages else Stage.TRAIN
            screen.finish(session.score if last is Stage.TRAIN else None)
    return code


@contextmanager
def _busy(doing: str, output: Output) -> Generator[None]:
    console = people()
    if output.quiet or not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


class _Conductor:
    """Starts the stages, passes their events on, and stops them at a signal."""

    def __init__(self, session: Session, screen: Screen, output: Output) -> None:
        self._session = session
        self._screen = screen
        self._json = output.json
        self._run: Run | None = None
        self._stopped = False

    async def run(self, stages: Sequence[Stage]) -> int:
        """Return the exit code: a stage that does not end well ends it all."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        moving = asyncio.create_task(self._screen.run())
        try:
            for stage in stages:
                if self._stopped:
                    self._screen.stopped_before(stage)
                    return INTERRUPTED
                await self._do(stage)
        except BrokenPipeError:
            await self._give_up()
            return INTERRUPTED
        except TrainableError as error:
            if not self._screen.ended_badly:
                raise
            return error.exit_code  # the screen has said why
        finally:
            moving.cancel()
        return 0

    async def _do(self, stage: Stage) -> None:
        self._run = self._session.run(stage)
        async for event in self._run:
            self._write(event)
            self._screen.take(event)
        await self._run

    def _write(self, event: Event | UnknownEvent) -> None:
        if self._json:
            sys.stdout.write(event.model_dump_json() + "\n")
            sys.stdout.flush()

    def _stop(self) -> None:
        if self._stopped:
            self._leave()
        self._stopped = True
        self._screen.stopping()
        if self._run is not None:
            self._run.cancel("You stopped this run.")

    def _leave(self) -> None:
        """End at the second signal, whatever still goes on; the sandbox ends with this process."""
        self._screen.close()
        people().print("Left before the run had ended. Finished steps are kept.")
        sys.stdout.flush()
        os._exit(INTERRUPTED)

    async def _give_up(self) -> None:
        """Stop, since nobody reads what is written any more."""
        mute()
        if self._run is not None:
            self._run.cancel("The reader of the output has gone.")
            with suppress(RunError):
                await self._run

"""The workbench of one run: everything that an agent does goes through here into the log."""

import asyncio
import re
from collections import deque
from pathlib import Path

from trainable.agent.base import StepResult
from trainable.errors import StageFailed
from trainable.events import (
    AgentMessage,
    Event,
    FileCreated,
    Notice,
    ToolEnd,
    ToolInput,
    ToolStart,
)
from trainable.sandbox.base import Box, Changed
from trainable.stages import Stage
from trainable.storage.directory import DirectoryVolume
from trainable.stream import Emit, streaming

REPEATS = 3
"""Equal failures in a row after which the agent is stopped."""


class SandboxBench:
    """A `Workbench` whose code runs in a box and whose every act is an event."""

    def __init__(
        self,
        box: Box,
        volume: DirectoryVolume,
        folder: str,
        emit: Emit,
        *,
        timeout: float,
        max_turns: int,
    ) -> None:
        """Make a workbench.

        Args:
            box: Where code runs.
            volume: Where scripts are saved.
            folder: The stage's folder in the volume, `sessions/{id}/{stage}`.
            emit: Takes the events.
            timeout: Seconds that one call of `execute_code` may take.
            max_turns: Calls of `execute_code` that the agent may make.
        """
        self._box = box
        self._volume = volume
        self._folder = folder
        self._stage = Stage(folder.rpartition("/")[2])
        self._emit = emit
        self._timeout = timeout
        self._turns_left = max_turns
        self._max_turns = max_turns
        self._step = _last_step(volume, folder)
        self._known: set[str] = set()
        self._recent: deque[tuple[str, str, int]] = deque(maxlen=REPEATS)

    @property
    def turns(self) -> int:
        """Calls of `execute_code` so far."""
        return self._max_turns - self._turns_left

    async def say(self, text: str) -> None:
        """See `Workbench.say`."""
        await self._emit(AgentMessage(text=text))

    async def emit(self, event: Event) -> None:
        """See `Workbench.emit`."""
        await self._emit(event)

    async def execute_code(self, code: str, name: str = "") -> StepResult:
        """See `Workbench.execute_code`."""
        self._check_turns()
        self._step += 1
        script = f"{self._folder}/scripts/step_{self._step:02d}_{slug(name or code)}.py"
        await asyncio.to_thread(self._volume.write_bytes, script, code.encode())
        await self._emit(ToolStart(input=ToolInput(code=code), script=script, step=self._step))
        path = self._volume.path(script)
        async with streaming(self._emit, self._announce, self._stage) as stream:
            result = await self._box.run_code(
                code, script=path, timeout=self._timeout, push=stream.push
            )
        text = stream.text()
        if result.limit is not None:
            text += f"\n[stopped: {self._why_stopped(result.limit)}]"
        if result.restarted is not None:
            await self._emit(
                Notice(
                    code="driver_restarted",
                    text=f"The process that runs the steps died ({result.restarted}).",
                    remedy="A new one has taken its place; files are as they were.",
                )
            )
        await self._emit(
            ToolEnd(
                output=text,
                exit_code=result.exit_code,
                seconds=round(result.seconds, 3),
                timed_out=result.timed_out,
            )
        )
        self._check_progress(code, text.replace(path.name, ""), result.exit_code)
        images = tuple(file for file in stream.files if file.endswith((".png", ".jpg")))
        return StepResult(
            text=text, exit_code=result.exit_code, timed_out=result.timed_out, images=images
        )

    def _announce(self, change: Changed) -> FileCreated:
        path = f"{self._folder}/{change.path}"
        again = path in self._known
        self._known.add(path)
        name = change.path.rpartition("/")[2]
        return FileCreated(path=path, name=name, size=change.size, changed=again)

    def _why_stopped(self, limit: str) -> str:
        most = self._box.info.limits
        if limit == "wall":
            seconds = min(self._timeout, most.get("wall", self._timeout))
            return f"the step took longer than {seconds:g} seconds"
        return f"the step went over the limit {limit} of {most.get(limit, 0):,.0f}"

    def _check_turns(self) -> None:
        if self._turns_left == 0:
            raise StageFailed(
                f"The agent used all of its {self._max_turns} turns.",
                remedy="Run the stage again with a higher max_turns, or narrow the instructions.",
                code="turn_limit",
            )
        self._turns_left -= 1

    def _check_progress(self, code: str, text: str, exit_code: int) -> None:
        self._recent.append((code, text, exit_code))
        if exit_code and len(self._recent) == REPEATS and len(set(self._recent)) == 1:
            raise StageFailed(
                f"The agent ran the same failing code {REPEATS} times in a row.",
                remedy="Read the error in the last step, change the instructions and run again.",
                code="stuck",
            )


def slug(text: str) -> str:
    """Return a file name part made from a name, or from the first comment or function of code."""
    found = re.search(r"^\s*(?:#+|\"\"\"|def|class)\s*(.+)$", text, re.MULTILINE)
    words = re.findall(r"[a-z0-9]+", (found.group(1) if found else text[:200]).lower())
    return "_".join(words)[:40].strip("_") or "code"


def _last_step(volume: DirectoryVolume, folder: str) -> int:
    numbers = [0]
    for info in volume.list(f"{folder}/scripts"):
        if match := re.match(r"step_(\d+)_", Path(info.path).name):
            numbers.append(int(match.group(1)))
    return max(numbers)

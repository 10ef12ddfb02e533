"""The built-in agent: the same plain scripts every time, with no key and no network."""

import importlib
import json
import re
from importlib.resources import files
from typing import Any

from trainable.agent.base import Brief, StepResult, Workbench
from trainable.errors import StageFailed
from trainable.stages import Stage

HEADER = re.compile(r"^# Parameters\n(.*?)^# End of parameters$", re.MULTILINE | re.DOTALL)
PARAMETER = re.compile(r"^([A-Z][A-Z0-9_]*)(: [^=\n]+)? = .*$", re.MULTILINE)


class PlaybookAgent:
    """Runs the scripts of `agent/playbook/{stage}/` in order; deterministic and free."""

    name = "playbook"
    model = None
    trusted = True

    async def work(self, brief: Brief, bench: Workbench) -> None:
        """See `Agent.work`."""
        known: dict[str, Any] = {
            "target": brief.target,
            "task": brief.task,
            "group": brief.group,
            "time": brief.time,
            "instructions": "\n".join(filter(None, (brief.instructions, brief.prompt))),
        }
        for name, sentence in steps(brief.stage):
            await bench.say(sentence)
            result = await bench.execute_code(fill(script(brief.stage, name), known), name)
            if not result.ok:
                raise _failure(brief.stage, name, result)
            known |= read_next(result.text)


def steps(stage: Stage) -> tuple[tuple[str, str], ...]:
    """Return the scripts of `stage` in order, each with what is said before it runs."""
    return importlib.import_module(f"{__name__}.{stage.value}").STEPS


def script(stage: Stage, name: str) -> str:
    """Return the text of one playbook script, without values for its parameters."""
    return (files(__name__) / stage.value / f"{name}.py").read_text("utf-8")


def fill(code: str, known: dict[str, Any]) -> str:
    """Return `code` with the value of each parameter in its header that is `known`.

    A parameter `TARGET` is known as `target`. Values are written by `repr`, so a hostile
    column name stays a string.
    """

    def value(match: re.Match[str]) -> str:
        name, annotation = match.group(1), match.group(2) or ""
        if name.lower() not in known:
            return match.group(0)
        return f"{name}{annotation} = {known[name.lower()]!r}"

    return HEADER.sub(lambda header: PARAMETER.sub(value, header.group(0)), code)


def read_next(text: str) -> dict[str, Any]:
    """Return what a step printed in lines `next: {...}` for the steps after it."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("next: "):
            found |= json.loads(line.removeprefix("next: "))
    return found


def _failure(stage: Stage, name: str, result: StepResult) -> StageFailed:
    if result.timed_out:
        return StageFailed(
            f"The playbook's {stage.label} step {name!r} took too long.",
            remedy="Run the stage again with a higher timeout, or with fewer rows.",
            code="timeout",
        )
    lines = [line for line in result.text.splitlines() if line.strip()]
    return StageFailed(
        f"The playbook's {stage.label} step {name!r} failed: {lines[-1] if lines else 'no output'}",
        remedy="The step's output says where; mend the data or name the target, then run again.",
        code="step_failed",
    )

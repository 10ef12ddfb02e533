"""Checks what a stage delivered, whoever made it, by a script that runs in the stage's box."""

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainable.agent.playbook import fill
from trainable.events import Finding, ValidationResult
from trainable.sandbox.base import Box, Changed, Output, Record
from trainable.stages import Stage

FINDINGS = TypeAdapter(dict[str, list[Finding]])
CHECKS = Path(__file__).with_name("checks")
TIMEOUT_SECONDS = 600.0


async def validate(stage: Stage, box: Box, parameters: dict[str, Any]) -> ValidationResult:
    """Return the findings on `stage`, whose folder is the box's working directory.

    A check that cannot be made is an error finding, never an exception.

    Args:
        stage: The stage to check.
        box: Where the checking script runs.
        parameters: Values for the script's header, e.g. `{"logged_metrics": 120}`.

    Raises:
        SandboxError: The box failed.
    """
    script = CHECKS / f"{stage.value}.py"
    code = await asyncio.to_thread(script.read_text, "utf-8")
    printed: dict[str, list[str]] = {"stdout": [], "stderr": []}

    async def push(item: Output | Record | Changed) -> None:
        if isinstance(item, Output):
            printed[item.stream].append(item.text)

    result = await box.run_code(
        fill(code, parameters),
        script=script,
        timeout=TIMEOUT_SECONDS,
        push=push,
    )
    findings = _read("".join(printed["stdout"]))
    if findings is None:
        last = "".join(printed["stderr"]).strip().rpartition("\n")[2][:500]
        reason = "took too long" if result.timed_out else f"failed: {last}"
        broken = Finding(code="check_failed", message=f"The {stage.label} check {reason}.")
        return ValidationResult(passed=[], warnings=[], errors=[broken])
    return findings


def _read(stdout: str) -> ValidationResult | None:
    last = stdout.rstrip("\n").rpartition("\n")[2]
    try:
        groups = FINDINGS.validate_python(json.loads(last.removeprefix("findings: ")))
    except (ValueError, ValidationError):
        return None
    return ValidationResult(
        passed=groups.get("passed", []),
        warnings=groups.get("warnings", []),
        errors=groups.get("errors", []),
    )

"""An agent that does what it is told, for tests of whatever stands around agents."""

from collections.abc import Mapping, Sequence

from trainable.agent.base import Brief, StepResult, Workbench
from trainable.errors import StageFailed
from trainable.stages import Stage


class ScriptedAgent:
    """Runs given pieces of code, one `execute_code` each, and fails when one of them fails.

    The codes are the same for every stage, or chosen by stage.
    """

    name = "scripted"
    model = None

    def __init__(
        self, codes: Sequence[str] | Mapping[Stage, Sequence[str]], *, trusted: bool = True
    ) -> None:
        """Make an agent.

        Args:
            codes: What to run, in order.
            trusted: Whether the code may run without isolation.
        """
        self._codes = codes
        self.trusted = trusted
        self.results: list[StepResult] = []
        """What the agent got to read, of all runs."""
        self.briefs: list[Brief] = []
        """What it was told, for each run."""

    async def work(self, brief: Brief, bench: Workbench) -> None:
        """See `Agent.work`."""
        self.briefs.append(brief)
        codes = self._codes[brief.stage] if isinstance(self._codes, Mapping) else self._codes
        for number, code in enumerate(codes, 1):
            await bench.say(f"Step {number}.")
            result = await bench.execute_code(code)
            self.results.append(result)
            if not result.ok:
                raise StageFailed(f"Step {number} failed.", code="step_failed")

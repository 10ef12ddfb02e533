"""A process that is killed at any moment loses nothing that it had delivered."""

import random
import subprocess
import sys

import pandas as pd
import pytest

import trainable
from trainable.testing.agent import ScriptedAgent

FRAME = pd.DataFrame({"age": range(40), "paid": [0, 1] * 20})


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_kill_at_a_random_moment_loses_no_delivered_event(kills: int):
    session = trainable.Session(FRAME, agent=ScriptedAgent(["print(1)"]))
    moments = random.Random(20261128)
    for _ in range(kills):
        delivered = _run_and_kill(session.id, after=moments.randint(1, 90))
        assert trainable.Session.load(session.id).state == "failed"
        stored = [event.seq for event in session.events()]
        assert stored == list(range(1, len(stored) + 1))
        assert set(delivered) <= set(stored)
        error, state = session.events()[-2:]
        assert (error.type, error.code) == ("agent_error", "interrupted")
        assert (state.type, state.state) == ("state_change", "failed")
    assert list(session.run("eda"))[-1].type == "state_change"


def _run_and_kill(session_id: str, after: int) -> list[int]:
    """Kill the child once it has acknowledged `after` more events; return what it acknowledged."""
    command = [sys.executable, "-m", "tests.support.crash_child", session_id]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    with child:
        for line in child.stdout:
            lines.append(line)
            if len(lines) == after:
                break
        child.kill()
        lines += child.stdout.readlines()
    return [int(line) for line in lines if line.endswith("\n")]

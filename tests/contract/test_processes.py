"""Several processes on one home: they see each other's events and can stop each other's runs."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pandas as pd
import pytest

import trainable
from trainable.errors import SessionBusyError
from trainable.testing.agent import ScriptedAgent

FRAME = pd.DataFrame({"age": range(40), "paid": [0, 1] * 20})
RUNNERS = 4


def start(session: trainable.Session) -> subprocess.Popen[str]:
    """Run EDA of the session in a process of its own."""
    command = [sys.executable, "-m", "tests.support.crash_child", session.id]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def session() -> trainable.Session:
    return trainable.Session(FRAME, agent=ScriptedAgent(["print(1)"]))


@pytest.fixture
def other(session: trainable.Session) -> Iterator[subprocess.Popen[str]]:
    with start(session) as child:
        yield child
        child.kill()


def test_a_run_of_another_process_is_followed_to_its_end(
    session: trainable.Session, other: subprocess.Popen[str]
):
    async def follow() -> list[int]:
        seen: list[int] = []
        async for event in session.follow():
            seen.append(event.seq)
            if event.type == "state_change" and event.state in ("failed", "eda_done"):
                return seen
        return seen

    seen = asyncio.run(asyncio.wait_for(follow(), 120))
    delivered = [int(line) for line in other.stdout]
    assert seen == delivered == [event.seq for event in session.events()]


def test_a_run_of_another_process_is_refused_here_and_can_be_cancelled(
    session: trainable.Session, other: subprocess.Popen[str]
):
    other.stdout.readline()
    with pytest.raises(SessionBusyError):
        session.run("eda")
    assert session.cancel("Stopped from elsewhere.")
    other.wait(30)
    assert session.state == "cancelled"
    aborted = next(event for event in session.events() if event.type == "agent_aborted")
    assert aborted.reason == "Stopped from elsewhere."


def test_many_processes_share_a_database(session: trainable.Session):
    sessions = [trainable.Session(session.experiment) for _ in range(RUNNERS)]
    children = [start(one) for one in sessions]
    for one, child in zip(sessions, children, strict=True):
        delivered = [int(line) for line in child.stdout]
        assert child.wait(120) == 0
        child.stdout.close()
        assert delivered == [event.seq for event in one.events()]
        assert delivered == list(range(1, len(delivered) + 1))

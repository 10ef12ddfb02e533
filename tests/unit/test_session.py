"""Sessions and runs: the same events everywhere, clear refusals, and an end for everything."""

import asyncio
import threading
from pathlib import Path

import pandas as pd
import pytest

import trainable
from trainable.errors import (
    InputError,
    NotFoundError,
    SessionBusyError,
    StageFailed,
    StageOrderError,
    TargetError,
    UnavailableError,
    UnknownStageError,
)
from trainable.sandbox.isolation import LEVELS
from trainable.sandbox.limits import Limits
from trainable.sandbox.local import LocalSandbox
from trainable.testing.agent import ScriptedAgent

FRAME = pd.DataFrame({"age": range(40), "paid": [0, 1] * 20})
HELLO = "print('hello')"
FOREVER = "import os, time\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)"


def cold() -> LocalSandbox:
    """Return a sandbox that starts at once and in which process ids are those of this machine."""
    return LocalSandbox(preload=(), isolation="none")


def make(*codes: str, **options: object) -> trainable.Session:
    agent = ScriptedAgent(codes)
    return trainable.Session(FRAME, target="paid", agent=agent, sandbox=cold(), **options)


def types(events: object) -> list[str]:
    return [event.type for event in events]


def started_pid(run: trainable.Run) -> int:
    for event in run:
        if event.type == "code_output":
            return int(event.text.split()[1])
    raise AssertionError("the code never started")


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_constructing_runs_nothing_and_is_remembered():
    session = make(HELLO, name="small")
    assert session.state == "created"
    assert session.events() == []
    assert (session.experiment.rows, session.experiment.columns) == (40, 2)
    assert repr(session) == f"<Session {session.id[:8]} of 'small': created>"
    assert [found.id for found in trainable.sessions()] == [session.id]
    assert [found.id for found in trainable.experiments()] == [session.experiment.id]


def test_a_run_gives_the_same_events_to_for_async_for_and_the_store():
    session = make(HELLO)
    run = session.run("eda")
    with pytest.raises(StageFailed):
        run.wait()

    async def read():
        return [event async for event in run]

    assert list(run) == asyncio.run(read()) == session.events()
    assert [event.seq for event in run] == list(range(1, len(session.events()) + 1))


def test_a_step_is_told_in_order():
    session = make("from trainable import log\nprint('a')\nlog(1, {'loss': 0.5}, run='m')")
    assert types(session.run("eda")) == [
        "run_started",
        "state_change",
        "sandbox_started",
        "notice",
        "agent_message",
        "tool_start",
        "code_output",
        "metrics_batch",
        "tool_end",
        "files_ready",
        "validation_result",
        "usage",
        "agent_error",
        "state_change",
    ]
    assert session.metrics()[["step", "name", "value", "run_tag"]].values.tolist() == [
        [1, "loss", 0.5, "m"]
    ]
    assert session.messages()[0].text == "Step 1."


async def test_await_and_wait_inside_a_running_loop():
    session = make(HELLO)
    with pytest.raises(StageFailed, match="checks"):
        await session.run("eda")
    with pytest.raises(StageFailed, match="checks"):
        session.run("eda").wait()


async def test_a_blocked_loop_does_not_stall_the_run():
    run = make(HELLO).run("eda")
    events = list(run)  # blocks this loop; the run goes on in the library's thread
    assert events[-1].type == "state_change"


def test_leaving_the_loop_ends_nothing():
    run = make(HELLO).run("eda")
    for _ in run:
        break
    assert run.status == "running"
    assert types(run)[-1] == "state_change"


def test_code_that_fails_fails_the_stage_and_keeps_its_files():
    session = make("open('kept.txt', 'w').write('x')", "1 / 0")
    with pytest.raises(StageFailed, match="Step 2 failed") as caught:
        session.run("eda").wait()
    assert caught.value.code == "step_failed"
    assert session.state == "failed"
    assert "kept.txt" in [found.name for found in session.artifacts("eda")]
    assert session.validation("eda").errors


def test_an_agent_that_crashes_fails_the_stage():
    class Broken(ScriptedAgent):
        async def work(self, brief, bench):
            raise RuntimeError("boom")

    session = trainable.Session(FRAME, agent=Broken([]), sandbox=cold())
    with pytest.raises(StageFailed, match="boom") as caught:
        session.run("eda").wait()
    assert caught.value.code == "internal"
    assert session.state == "failed"


def test_cancel_ends_code_and_session():
    session = make(FOREVER)
    run = session.run("eda")
    pid = started_pid(run)
    run.cancel()
    with pytest.raises(trainable.RunCancelled):
        run.wait(5)
    assert not is_running(pid)
    assert session.state == "cancelled"
    assert types(session.events())[-3:] == ["usage", "agent_aborted", "state_change"]


def test_cancel_through_another_handle_of_the_session():
    session = make(FOREVER)
    run = session.run("eda")
    pid = started_pid(run)
    assert trainable.Session.load(session.id[:6]).cancel("enough")
    with pytest.raises(trainable.RunCancelled, match="enough"):
        run.wait(5)
    assert not is_running(pid)
    assert not session.cancel()


async def test_cancelling_the_awaiting_task_cancels_the_run():
    session = make(FOREVER)
    run = session.run("eda")

    async def wait():
        await run

    task = asyncio.create_task(wait())
    pid = await asyncio.to_thread(started_pid, run)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert types(await asyncio.to_thread(list, run))[-1] == "state_change"
    assert not is_running(pid)
    assert session.state == "cancelled"


def test_waiting_with_a_timeout_leaves_the_run_going():
    run = make(FOREVER).run("eda")
    with pytest.raises(TimeoutError):
        run.wait(0.01)
    assert run.status == "running"
    run.cancel()
    with pytest.raises(trainable.RunCancelled):
        run.wait(5)


def test_a_step_that_takes_too_long_is_a_result_for_the_agent():
    session = make(FOREVER, timeout=1)
    agent = session._agent
    with pytest.raises(StageFailed, match="Step 1 failed"):
        session.run("eda").wait()
    assert agent.results[0].timed_out
    assert "longer than 1 seconds" in agent.results[0].text


def test_turns_are_limited():
    session = make(HELLO, HELLO, HELLO, max_turns=2)
    with pytest.raises(StageFailed, match="2 turns") as caught:
        session.run("eda").wait()
    assert caught.value.code == "turn_limit"


def test_an_agent_that_repeats_a_failure_is_stopped():
    class Stubborn(ScriptedAgent):
        async def work(self, brief, bench):
            while True:
                await bench.execute_code("1 / 0")

    session = trainable.Session(FRAME, agent=Stubborn([]), sandbox=cold())
    with pytest.raises(StageFailed, match="3 times in a row") as caught:
        session.run("eda").wait()
    assert caught.value.code == "stuck"


def test_scripts_are_numbered_on_and_never_overwritten():
    session = make("# Look at it\nprint(1)")
    for _ in range(2):
        with pytest.raises(StageFailed):
            session.run("eda").wait()
    scripts = [found.name for found in session.artifacts("eda") if found.type == "script"]
    assert scripts == ["step_01_look_at_it.py", "step_02_look_at_it.py"]


def test_wrong_order_unknown_stage_and_a_second_run_are_refused():
    session = make(FOREVER)
    with pytest.raises(StageOrderError, match="Run 'eda' first"):
        session.run("prep")
    with pytest.raises(UnknownStageError, match="Did you mean 'train'"):
        session.run("trian")
    run = session.run("eda")
    with pytest.raises(SessionBusyError):
        session.run("eda")
    run.cancel()
    with pytest.raises(trainable.RunCancelled):
        run.wait(5)
    assert types(session.events()).count("run_started") == 1


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": "payd"}, TargetError, "Did you mean 'paid'"),
        ({"group": "Age"}, TargetError, "Did you mean 'age'"),
        ({"task": "ranking"}, InputError, "classification"),
        ({"agent": "playbok"}, InputError, "Did you mean 'playbook'"),
        ({"agent": "claude"}, UnavailableError, "playbook"),
        ({"sandbox": "modal"}, UnavailableError, "local"),
        ({"gpu": "T4"}, InputError, "no GPU"),
        ({"timeout": 0}, InputError, "above zero"),
        ({"isolation": "some"}, InputError, "isolation"),
    ],
)
def test_bad_arguments_are_refused_at_construction(options, error, text):
    with pytest.raises(error, match=text):
        trainable.Session(FRAME, **options)
    assert trainable.sessions() == []


def test_untrusted_agents_run_behind_walls_unless_told_otherwise():
    agent = ScriptedAgent([HELLO], trusted=False)
    levels: list[str] = []
    for isolation in (None, "none"):
        run = trainable.Session(FRAME, agent=agent, isolation=isolation).run("eda")
        started, *others = run
        levels += [event.isolation for event in others if event.type == "sandbox_started"]
        assert ("without isolation" if isolation else levels[-1]) in started.reason
        assert agent.results[-1].text == "hello\n"
    assert levels[0] in LEVELS
    assert levels[1] == "none"
    box = trainable.Session.load().sandbox
    assert box is not None and box.isolation == "none" and "network" in box.missing


def test_a_limit_of_the_session_ends_a_step_and_is_named():
    agent = ScriptedAgent(["print('x' * 5000)", "print('on')"])
    sandbox = LocalSandbox(preload=())
    limits = Limits(output=1000)
    session = trainable.Session(FRAME, agent=agent, sandbox=sandbox, limits=limits)
    with pytest.raises(StageFailed, match="Step 1 failed"):
        session.run("eda").wait()
    assert "over the limit output of 1,000" in agent.results[0].text
    with pytest.raises(InputError, match="memory"):
        Limits(memory=0)


def test_load_finds_sessions_by_prefix_and_latest():
    first, second = make(HELLO), make(HELLO)
    assert trainable.Session.load(first.id[:8]).id == first.id
    assert trainable.Session.load().id == second.id
    with pytest.raises(NotFoundError, match="zzz"):
        trainable.Session.load("zzz")


def test_what_is_not_there_yet_is_said():
    session = make(HELLO)
    for ask in (session.report, session.validation):
        with pytest.raises(NotFoundError, match="Run 'eda' first"):
            ask("eda")
    assert session.score is None
    assert session.metrics().empty


def test_follow_sees_what_another_thread_runs():
    session = make(HELLO)

    async def follow_to_end():
        seen = []
        async for event in session.follow():
            seen.append(event)
            if event.type == "state_change" and event.state == "failed":
                return seen
        return seen

    worker = threading.Thread(target=lambda: list(session.run("eda")))
    worker.start()
    seen = asyncio.run(asyncio.wait_for(follow_to_end(), 60))
    worker.join()
    assert seen == session.events()


def test_a_second_session_on_the_same_experiment_shares_its_data():
    first = make(HELLO)
    second = trainable.Session(first.experiment, target="paid")
    assert second.experiment == first.experiment
    with pytest.raises(TargetError):
        trainable.Session(first.experiment, target="nope")


def test_sessions_run_side_by_side():
    sessions = [make("print('a')", "print('b')") for _ in range(4)]
    runs = [session.run("eda") for session in sessions]
    for session, run in zip(sessions, runs, strict=True):
        assert list(run) == session.events()
        assert {event.session_id for event in session.events()} == {session.id}


def test_a_flood_of_output_is_clipped_for_the_agent_and_bounded_in_the_log():
    session = make("for i in range(60000): print('x' * 99)")
    agent = session._agent
    with pytest.raises(StageFailed):
        session.run("eda").wait()
    assert len(agent.results[0].text) < 31_000
    assert "characters left out" in agent.results[0].text
    streamed = sum(len(e.text) for e in session.events() if e.type == "code_output")
    assert streamed == 2_000_000
    assert "output_clipped" in [e.code for e in session.events() if e.type == "notice"]


def test_numbers_that_are_none_are_reported_and_not_lost():
    code = (
        "from trainable import log\n"
        "log(1, {'a': float('nan'), 'b': 2})\nlog('x', {'a': 1})\nlog(2, {'a': True})"
    )
    session = make(code)
    list(session.run("eda"))
    batch = next(event for event in session.events() if event.type == "metrics_batch")
    assert batch.metrics() == [(1, {"a": None, "b": 2.0}, None)]
    assert batch.not_finite == ["a"]
    assert "metric_refused" in [e.code for e in session.events() if e.type == "notice"]


def test_a_hostile_script_folder_is_not_followed(tmp_path: Path):
    session = make(
        f"import os, shutil\nshutil.rmtree('scripts')\nos.symlink({str(tmp_path)!r}, 'scripts')",
        HELLO,
    )
    with pytest.raises(trainable.TrainableError):
        session.run("eda").wait()
    assert list(tmp_path.iterdir()) == []
    assert session.state == "failed"

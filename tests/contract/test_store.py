"""What every database must do; runs on each kind that is supported."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path

import pytest
import sqlalchemy as sa

from trainable.errors import (
    LeaseLostError,
    NotFoundError,
    SessionBusyError,
    StageOrderError,
    StorageError,
)
from trainable.events import (
    AgentDelta,
    AgentMessage,
    CodeOutput,
    Event,
    Finding,
    MetricItem,
    MetricsBatch,
    Notice,
    StateChange,
    TestScored,
    ToolEnd,
    UnknownEvent,
    UserMessage,
    ValidationResult,
)
from trainable.stages import RunState, Stage
from trainable.storage.database import Database
from trainable.storage.lease import Lease, this_owner
from trainable.storage.tables import (
    ArtifactRow,
    DatasetMetaRow,
    ExperimentRow,
    RunRow,
    SessionRow,
)

ROOT = Path(__file__).parents[2]
GONE = "nowhere/1:no-such-boot:1:1"  # an owner whom only the expiry of its lease can end


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'trainable.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def session_id(database: Database) -> str:
    return new_session(database)


def new_session(database: Database, **fields: object) -> str:
    experiment = database.add_experiment(ExperimentRow(name="titanic"))
    return database.add_session(SessionRow(experiment_id=experiment.id, **fields)).id


def note(text: str = "x") -> Notice:
    return Notice(code="test", text=text)


def logged(step: int, name: str, value: float, stage: Stage, run: str | None) -> MetricItem:
    return {"step": step, "name": name, "value": value, "stage": stage, "run_tag": run}


def start(database: Database, session_id: str, stage: str = "eda", owner: str = "") -> Lease:
    run = RunRow(session_id=session_id, stage=stage, agent="playbook")
    events: list[Event] = [StateChange(state=f"{stage}_running")]
    return database.start_run(run, owner or this_owner(), events)[0]


def pass_stage(database: Database, session_id: str, stage: str) -> None:
    lease = start(database, session_id, stage)
    database.end_run(lease, RunState.DONE, None, [StateChange(state=f"{stage}_done")])


def seqs(database: Database, session_id: str) -> list[int]:
    found: list[int] = []
    while batch := database.read_events(session_id, after=len(found)):
        found += [event.seq for event in batch]
    return found


def in_child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run code in another process; it prints what the test waits for."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


CHILD = """
import os, sys
from trainable.errors import StorageError
from trainable.events import CodeOutput, Notice, StateChange
from trainable.storage.database import Database
from trainable.storage.lease import this_owner
from trainable.storage.tables import RunRow
"""


# Experiments and sessions


def test_what_was_stored_is_there_after_reopening(url: str):
    first = Database.open(url)
    experiment = first.add_experiment(ExperimentRow(name="wine", source={"delimiter": ";"}))
    session = first.add_session(
        SessionRow(experiment_id=experiment.id, target="quality", options={"max_turns": 30})
    )
    first.close()
    second = Database.open(url)
    assert second.experiment(experiment.id).source == {"delimiter": ";"}
    found = second.session(session.id)
    assert (found.target, found.options, found.state) == ("quality", {"max_turns": 30}, "created")
    assert found.created_at == session.created_at
    assert found.created_at.tzinfo is UTC
    second.close()


def test_the_newest_comes_first(database: Database):
    ids = [new_session(database, name=f"{number}") for number in range(3)]
    assert [session.id for session in database.sessions()] == ids[::-1]
    assert database.experiments()[0].created_at >= database.experiments()[-1].created_at
    assert database.find_session("latest").id == ids[-1]


def test_a_session_is_found_by_a_prefix_that_only_it_has(database: Database):
    experiment = database.add_experiment(ExperimentRow(name="x"))
    for session_id in ("ab-1", "ab-2", "cd-1"):
        database.add_session(SessionRow(id=session_id, experiment_id=experiment.id))
    assert database.find_session("C").id == "cd-1"
    with pytest.raises(NotFoundError, match="2 sessions"):
        database.find_session("ab")
    for missing in ("x", "%", "c_"):
        with pytest.raises(NotFoundError, match="trainable sessions"):
            database.find_session(missing)


def test_what_is_not_there_is_said_to_be_missing(database: Database):
    with pytest.raises(NotFoundError, match="no session yet"):
        database.find_session("latest")
    with pytest.raises(NotFoundError, match="no session 'x'"):
        database.session("x")
    with pytest.raises(NotFoundError, match="no experiment 'x'"):
        database.add_session(SessionRow(experiment_id="x"))
    with pytest.raises(NotFoundError, match="no session 'x'"):
        database.append("x", [note()])
    with pytest.raises(NotFoundError, match="no session 'x'"):
        database.last_seq("x")


# Events


def test_events_are_numbered_from_one_without_gaps(database: Database, session_id: str):
    other = new_session(database)
    stored = [
        *database.append(session_id, [note("a"), note("b")]),
        *database.append(session_id, [note("c")]),
    ]
    database.append(other, [note("d")])
    assert [(e.seq, e.session_id) for e in stored] == [(n, session_id) for n in (1, 2, 3)]
    assert database.read_events(session_id) == stored
    assert database.read_events(session_id, after=1, limit=1) == stored[1:2]
    assert (database.last_seq(session_id), database.last_seq(other)) == (3, 1)
    assert database.append(session_id, []) == []


def test_stored_json_is_what_goes_over_the_wire(url: str, database: Database, session_id: str):
    event = database.append(session_id, [CodeOutput(stream="stdout", text="é\n", stage=Stage.EDA)])
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        data = connection.execute(sa.text("SELECT data FROM events")).scalar_one()
    engine.dispose()
    assert json.loads(data) == event[0].model_dump(mode="json")
    assert json.loads(data)["seq"] == 1


def test_numbers_that_are_not_finite_never_reach_the_json(
    url: str, database: Database, session_id: str
):
    nan, infinity = float("nan"), float("inf")
    finding = Finding.model_validate({"code": "c", "message": "m", "seen": {"a": [nan]}})
    database.append(
        session_id,
        [
            TestScored(metrics={"auc": nan, "ci95": [0, infinity]}, rows=1, ledger_id="l"),
            ValidationResult(passed=[], warnings=[finding], errors=[]),
            MetricsBatch(items=[logged(1, "loss", infinity, Stage.TRAIN, None)]),
        ],
    )
    new_session(database, options={"budget": nan})
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        texts = [
            *connection.execute(sa.text("SELECT data FROM events")).scalars(),
            *connection.execute(sa.text("SELECT options FROM sessions")).scalars(),
        ]
    engine.dispose()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for text in texts:
        json.loads(text, parse_constant=refuse)
    assert database.metrics(session_id)[0].value is None


def test_text_that_is_not_unicode_is_stored_without_its_broken_parts(
    database: Database, session_id: str
):
    finding = Finding.model_validate({"code": "c", "message": "m", "seen": ["\udcff"]})
    events = database.append(
        session_id,
        [
            AgentMessage(text="a\ud800b"),
            ValidationResult(passed=[finding], warnings=[], errors=[]),
            MetricsBatch(items=[logged(1, "l\ud800", 1.0, Stage.TRAIN, "r\ud800")]),
        ],
    )
    assert database.read_events(session_id) == events
    assert database.messages(session_id)[0].content == "a?b"
    assert database.metrics(session_id)[0].name == "l?"
    experiment = database.add_experiment(ExperimentRow(name="x", dataset_ref="/data/\udcff.csv"))
    assert database.experiment(experiment.id).dataset_ref == "/data/?.csv"


def test_events_of_a_newer_version_are_read_back_whole(
    url: str, database: Database, session_id: str
):
    database.append(session_id, [note()])
    wire = {"seq": 1, "type": "newer_kind", "session_id": session_id, "answer": 42}
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE events SET type = 'newer_kind', data = :data"),
            {"data": json.dumps(wire)},
        )
    engine.dispose()
    (event,) = database.read_events(session_id)
    assert isinstance(event, UnknownEvent)
    assert event.model_dump()["answer"] == 42


def test_transient_events_are_not_stored(database: Database, session_id: str):
    stored = database.append(session_id, [AgentDelta(text="a"), note(), AgentDelta(text="b")])
    assert [event.type for event in stored] == ["notice"]
    assert database.last_seq(session_id) == 1


def test_each_logged_number_becomes_a_row(database: Database, session_id: str):
    items = [
        logged(0, "loss", 0.5, Stage.TRAIN, "lgbm"),
        logged(10**30, "loss", 0.25, Stage.TRAIN, None),
    ]
    batch = MetricsBatch(items=items, stage=Stage.TRAIN)
    (event,) = database.append(session_id, [batch])
    rows = database.metrics(session_id)
    assert [tuple(row)[:5] for row in rows] == [
        ("train", 0, "loss", 0.5, "lgbm"),
        ("train", 2**63 - 1, "loss", 0.25, None),
    ]
    assert rows[0].time == event.time
    assert database.metrics(new_session(database)) == []


def test_what_was_said_becomes_the_conversation(database: Database, session_id: str):
    database.append(
        session_id,
        [
            UserMessage(text="go", stage=Stage.EDA),
            note(),
            AgentMessage(text="I look."),
            ToolEnd(output="1\n", exit_code=0, seconds=0.5),
        ],
    )
    messages = database.messages(session_id)
    assert [(m.role, m.content, m.seq) for m in messages] == [
        ("user", "go", 1),
        ("assistant", "I look.", 3),
        ("tool", "1\n", 4),
    ]
    assert messages[0].metadata_ == {"type": "user_message", "stage": "eda"}
    assert messages[2].metadata_["exit_code"] == 0


def test_writes_that_share_a_commit_fail_alone(database: Database, session_id: str):
    futures = [
        database.submit(session_id if number % 3 else "nobody's", [note()]) for number in range(60)
    ]
    results = [future.exception() for future in futures]
    assert [type(error) for error in results[::3]] == [NotFoundError] * 20
    assert [error for n, error in enumerate(results) if n % 3] == [None] * 40
    assert seqs(database, session_id) == [*range(1, 41)]


# Runs and leases


def test_a_run_moves_the_session_through_its_states(database: Database, session_id: str):
    lease = start(database, session_id)
    assert database.session(session_id).state == "eda_running"
    database.append(session_id, [note()], lease)
    assert database.heartbeat(lease) is None
    events = database.end_run(lease, RunState.DONE, None, [StateChange(state="eda_done")])
    assert [event.seq for event in events] == [3]
    (run,) = database.runs(session_id)
    assert (run.state, run.number, run.first_seq, run.last_seq) == ("done", 1, 1, 3)
    assert run.ended_at is not None
    assert run.ended_at >= run.started_at
    assert database.session(session_id).state == "eda_done"


def test_stages_start_in_their_order(database: Database, session_id: str):
    with pytest.raises(StageOrderError, match="Prep needs a finished EDA"):
        start(database, session_id, "prep")
    assert database.last_seq(session_id) == 0
    lease = start(database, session_id)
    database.end_run(lease, RunState.FAILED, "validation", [])
    with pytest.raises(StageOrderError):
        start(database, session_id, "prep")
    pass_stage(database, session_id, "eda")
    pass_stage(database, session_id, "prep")
    assert database.session(session_id).state == "prep_done"


def test_running_a_stage_again_makes_later_ones_stale(database: Database, session_id: str):
    for stage in ("eda", "prep", "train", "eda"):
        pass_stage(database, session_id, stage)
    assert [run.stale for run in database.runs(session_id)] == [False, True, True, False]
    with pytest.raises(StageOrderError):
        start(database, session_id, "train")
    pass_stage(database, session_id, "prep")
    pass_stage(database, session_id, "train")
    assert [run.number for run in database.runs(session_id)] == [1, 2, 3, 4, 5, 6]


def test_only_one_of_many_starts_wins(url: str, session_id: str):
    databases = [Database.open(url) for _ in range(4)]

    def attempt(number: int) -> str:
        try:
            return start(databases[number % 4], session_id).run_id
        except SessionBusyError:
            return "busy"

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(attempt, range(12)))
    assert results.count("busy") == 11
    for opened in databases:
        opened.close()


def test_cancelling_reaches_the_owner(database: Database, session_id: str):
    assert database.request_cancel(session_id, "stop") is False
    lease = start(database, session_id)
    assert database.cancel_reason(lease) is None
    assert database.request_cancel(session_id, "first") is True
    assert database.request_cancel(session_id, "second") is True
    assert database.heartbeat(lease) == database.cancel_reason(lease) == "first"
    database.end_run(lease, RunState.CANCELLED, "first", [StateChange(state="cancelled")])
    assert database.session(session_id).state == "cancelled"
    assert database.request_cancel(session_id, "late") is False


def test_who_lost_the_lease_cannot_write_any_more(url: str, database: Database, session_id: str):
    old = start(database, session_id, owner=GONE)
    with pytest.raises(SessionBusyError):
        start(database, session_id)
    expire_leases(url)
    new = start(database, session_id)
    assert new.epoch > old.epoch
    before = database.last_seq(session_id)
    for write in (
        lambda: database.append(session_id, [note()], old),
        lambda: database.heartbeat(old),
        lambda: database.end_run(old, RunState.DONE, None, [note()]),
    ):
        with pytest.raises(LeaseLostError, match="took this session over"):
            write()
    assert database.last_seq(session_id) == before
    database.append(session_id, [note()], new)


def test_a_heartbeat_keeps_an_expired_lease_that_nobody_took(
    url: str, database: Database, session_id: str
):
    lease = start(database, session_id, owner=GONE)
    expire_leases(url)
    database.heartbeat(lease)
    database.reap()
    assert database.session(session_id).state == "eda_running"


def test_a_run_whose_process_died_is_interrupted(url: str, database: Database, session_id: str):
    pass_stage(database, session_id, "eda")
    child = in_child(
        """
database = Database.open(sys.argv[1])
run = RunRow(session_id=sys.argv[2], stage="prep")
database.start_run(run, this_owner(), [StateChange(state="prep_running")])
print("started", flush=True)
sys.stdin.read()
""",
        url,
        session_id,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    database.reap()
    assert database.session(session_id).state == "prep_running"
    child.kill()  # not waited for: a zombie is dead as well
    while database.session(session_id).state == "prep_running":
        database.reap()
    child.communicate()
    run = database.runs(session_id)[-1]
    assert (run.state, run.reason, run.last_seq) == ("failed", "interrupted", 5)
    error, change = database.read_events(session_id, after=3)
    assert (error.type, error.stage) == ("agent_error", "prep")
    assert error.model_dump()["code"] == "interrupted"
    assert isinstance(change, StateChange)
    assert change.state == database.session(session_id).state == "failed"
    pass_stage(database, session_id, "prep")


def expire_leases(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE leases SET expires_at = 0"))
    engine.dispose()


# Artifacts and metadata


def test_artifacts_of_a_stage_are_replaced_as_a_whole(database: Database, session_id: str):
    def row(name: str, stage: str = "eda") -> ArtifactRow:
        path = f"sessions/{session_id}/{stage}/{name}"
        return ArtifactRow(session_id=session_id, stage=stage, type="file", name=name, path=path)

    database.set_artifacts(session_id, "prep", [row("z", "prep")])
    database.set_artifacts(session_id, "eda", [row("b"), row("a")])
    database.set_artifacts(session_id, "eda", [row("c"), row("a")])
    assert [found.name for found in database.artifacts(session_id, "eda")] == ["a", "c"]
    assert [found.name for found in database.artifacts(session_id)] == ["a", "c", "z"]


def test_a_session_has_one_row_of_dataset_metadata(database: Database, session_id: str):
    assert database.dataset_meta(session_id) is None
    experiment_id = database.session(session_id).experiment_id
    for rows in (1, 2):
        database.set_dataset_meta(
            DatasetMetaRow(session_id=session_id, experiment_id=experiment_id, total_rows=rows)
        )
    found = database.dataset_meta(session_id)
    assert found is not None
    assert found.total_rows == 2


# Many threads and processes, and what can go wrong

APPEND = """
database = Database.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for session_id in sys.argv[3:]:
    for number in range(int(sys.argv[2])):
        database.append(session_id, [CodeOutput(stream="stdout", text=f"{os.getpid()} {number}")])
database.close()
"""


def run_together(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        _, complaints = child.communicate(timeout=120)
        assert (child.returncode, complaints) == (0, "")


def test_processes_that_write_at_once_leave_no_gap(url: str, database: Database):
    shared = new_session(database)
    own = [new_session(database) for _ in range(4)]
    run_together([in_child(APPEND, url, "200", shared, session_id) for session_id in own])
    assert seqs(database, shared) == [*range(1, 801)]
    for session_id in own:
        assert seqs(database, session_id) == [*range(1, 201)]


def test_threads_that_write_at_once_leave_no_gap(url: str, database: Database, session_id: str):
    other = Database.open(url)

    def work(number: int) -> list[int]:
        chosen = (database, other)[number % 2]
        return [chosen.append(session_id, [note()])[0].seq for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        numbers = [seq for part in pool.map(work, range(8)) for seq in part]
    assert sorted(numbers) == seqs(database, session_id) == [*range(1, 201)]
    other.close()


@pytest.mark.parametrize("lines", [1, 40, 150])
def test_no_event_is_lost_when_the_process_is_killed(url: str, database: Database, lines: int):
    session_id = new_session(database)
    child = in_child(
        """
import threading
database = Database.open(sys.argv[1])
def work():
    while True:
        event = CodeOutput(stream="stdout", text="x" * 500)
        seq = database.append(sys.argv[2], [event, event])[-1].seq
        os.write(1, b"%d\\n" % seq)
for _ in range(3):
    threading.Thread(target=work).start()
""",
        url,
        session_id,
    )
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(lines)]
    child.kill()
    rest = child.communicate()[0]
    told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert seqs(database, session_id) == [*range(1, database.last_seq(session_id) + 1)]
    assert database.last_seq(session_id) >= max(told)
    assert database.append(session_id, [note()])[0].seq == len(seqs(database, session_id))


def test_a_counter_tells_that_others_have_written(url: str, database: Database, session_id: str):
    before = database.change_counter()
    assert database.change_counter() == before
    other = Database.open(url)
    other.append(session_id, [note()])
    assert database.change_counter() != before
    other.close()


def test_a_closed_database_says_so(url: str):
    database = Database.open(url)
    database.close()
    with pytest.raises(StorageError, match="closed"):
        database.add_experiment(ExperimentRow(name="x"))


@pytest.mark.parametrize(
    "wrong", ["", "trainable.db", "sqlite://", "sqlite:///:memory:", "oracle://scott:tiger@host/db"]
)
def test_an_address_of_something_else_is_refused(wrong: str):
    with pytest.raises(StorageError, match="DATABASE_URL") as caught:
        Database.open(wrong)
    assert "tiger" not in str(caught.value)


class TestSqliteFile:
    """Faults that only a file can have."""

    @pytest.fixture
    def path(self, url: str) -> Path:
        return Path(url.removeprefix("sqlite:///"))

    def test_a_removed_file_is_noticed(self, path: Path, database: Database, session_id: str):
        database.append(session_id, [note()])
        moved = path.rename(path.with_suffix(".away"))
        for use in (
            lambda: database.append(session_id, [note()]),
            lambda: database.read_events(session_id),
            database.change_counter,
        ):
            with pytest.raises(StorageError, match="removed or replaced"):
                use()
        moved.rename(path)
        assert database.append(session_id, [note()])[0].seq == 2

    def test_a_file_of_another_kind_is_left_alone(self, tmp_path: Path):
        path = tmp_path / "notes.db"
        path.write_text("These are my notes, and there are quite a lot of them. " * 20)
        with pytest.raises(StorageError, match="not a database of Trainable"):
            Database.open(f"sqlite:///{path}")
        assert path.read_text().startswith("These are my notes")

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path):
        (tmp_path / "home").write_text("a file")
        with pytest.raises(StorageError, match="TRAINABLE_HOME") as caught:
            Database.open(f"sqlite:///{tmp_path / 'home/trainable.db'}")
        assert caught.value.__cause__ is None

    def test_a_read_only_home_is_one_clear_sentence(self, tmp_path: Path):
        (tmp_path / "home").mkdir(mode=0o555)
        child = in_child(
            """
if os.geteuid() == 0:
    os.chmod(os.path.dirname(sys.argv[2]), 0o755)
    os.seteuid(65534)
try:
    Database.open("sqlite:///" + sys.argv[1])
except StorageError as error:
    print(error.code, error)
""",
            str(tmp_path / "home/trainable.db"),
            str(tmp_path),
        )
        output, complaints = child.communicate(timeout=60)
        assert (output.split()[0], complaints) == ("storage_read_only", "")
        assert "TRAINABLE_HOME" in output

    def test_a_full_disk_loses_nothing_that_was_stored(self, url: str, session_id: str):
        child = in_child(
            """
import resource
database = Database.open(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
told = 0
try:
    while True:
        told = database.append(sys.argv[2], [Notice(code="c", text="x" * 9000)])[0].seq
except StorageError as error:
    print(error.code, error.remedy)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(told, database.append(sys.argv[2], [Notice(code="c", text="x")])[0].seq)
""",
            url,
            session_id,
        )
        output, complaints = child.communicate(timeout=60)
        first, second = output.splitlines()
        assert complaints == ""
        assert "disk" in first
        told, after = map(int, second.split())
        assert (told > 5, after) == (True, told + 1)

    def test_a_killed_process_leaves_a_sound_file(
        self, path: Path, database: Database, session_id: str
    ):
        child = in_child(APPEND, f"sqlite:///{path}", "100000", session_id)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        while database.last_seq(session_id) < 20:
            pass
        child.kill()
        child.communicate()
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()

"""The command line: what it prints where, its exit codes, and how it stops."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import trainable
from trainable.cli import app
from trainable.cli.live import moving_rows
from trainable.cli.rows import rows_of, stage_rows
from trainable.cli.summary import About, ending_rows, header, result_pairs, score_row
from trainable.cli.text import age, clean_line, clock, short_id, shorten, sparkline
from trainable.cli.view import SessionView, reduce, title_of
from trainable.events import (
    AgentAborted,
    AgentError,
    AgentMessage,
    CodeOutput,
    Event,
    FileCreated,
    FilesReady,
    Finding,
    MetricItem,
    MetricsBatch,
    Notice,
    RunStarted,
    SandboxStarted,
    StateChange,
    ToolEnd,
    ToolInput,
    ToolStart,
    ValidationResult,
    parse_event,
)
from trainable.session import Score
from trainable.stages import Stage

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ABOUT = About(id="9c02", name="churn", data="churn.csv, 10 rows", volume=Path("/data/volume"))
TRACEBACK = "Traceback"

# A session whose one step prints, and then runs until it is stopped.
SCRIPTED = """
import sys
from dataclasses import replace
from trainable import Session
from trainable.cli.run import Output, perform
from trainable.sandbox.local import LocalSandbox
from trainable.stages import Stage
import pandas as pd

class Bare:
    name = "bare"

    def open(self, spec):
        return LocalSandbox().open(replace(spec, preload=()))

class Scripted:
    name, model, trusted = "scripted", None, True

    async def work(self, brief, bench):
        await bench.execute_code(sys.argv[1])
        await bench.execute_code(sys.argv[1])

frame = pd.DataFrame({"a": range(40), "b": [0, 1] * 20})
session = Session(frame, target="b", name="tiny", agent=Scripted(), sandbox=Bare())
sys.exit(perform(session, [Stage.EDA], Output(json="--json" in sys.argv)))
"""
ENDLESS = "# Wait for good\nimport time\nprint('under way', flush=True)\ntime.sleep(600)"


def recorded(*, stage: Stage = Stage.TRAIN) -> list[Event]:
    """Events of a stage with two steps, one of them with figures and one with metrics."""
    folder = f"sessions/1/{stage.value}"
    losses = [
        MetricItem(step=i, name="val_loss", value=1 - i / 10, stage=stage, run_tag=None)
        for i in range(6)
    ]
    events: list[tuple[float, Event]] = [
        (0, RunStarted(run_id="r", agent="playbook")),
        (0, StateChange(state=f"{stage.value}_running")),
        (1, SandboxStarted(backend="local", isolation="none", missing=["network"])),
        (1, Notice(code="not_isolated", text="Not isolated.", remedy="Only the playbook runs.")),
        (1, AgentMessage(text="I look first.")),
        (1, ToolStart(input=ToolInput(code='"""Draw it. More."""'), script="s/a.py", step=1)),
        (1, FileCreated(path=f"{folder}/figures/a.png", name="a.png", size=3)),
        (1, FileCreated(path=f"{folder}/report.md", name="report.md", size=3)),
        (1, FileCreated(path=f"{folder}/report.md", name="report.md", size=4, changed=True)),
        (1, ToolEnd(output="", exit_code=0, seconds=3.14)),
        (4, AgentMessage(text="Now I fit.")),
        (5, ToolStart(input=ToolInput(code="# Fit a model\nx = 1"), script="s/b.py", step=2)),
        (6, CodeOutput(stream="stdout", text="one\ntwo\nth")),
        (7, MetricsBatch(items=losses)),
        (8, CodeOutput(stream="stdout", text="ree\n")),
        (75, ToolEnd(output="", exit_code=0, seconds=70.2)),
        (75, FilesReady(files=[f"{folder}/report.md", f"{folder}/models/model.pkl"])),
        (
            77,
            ValidationResult(
                passed=[Finding(code="a", message="A.")] * 3,
                warnings=[Finding(code="b", message="All models are within the noise.")],
                errors=[],
            ),
        ),
        (77, StateChange(state=f"{stage.value}_done")),
    ]
    return [
        event.model_copy(
            update={"seq": seq, "stage": stage, "time": START + timedelta(seconds=after)}
        )
        for seq, (after, event) in enumerate(events, start=1)
    ]


def view_of(events: list[Event]) -> SessionView:
    view = SessionView()
    for event in events:
        view = reduce(view, event)
    return view


def printed(rows: list[Any], width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    for row in rows:
        console.print(row)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def ended_with(*events: Event) -> SessionView:
    """The recorded stage, ended by `events` while its second step ran."""
    begun = recorded()[:15]
    return view_of([*begun, *(event.model_copy(update={"stage": Stage.TRAIN}) for event in events)])


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore", **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trainable", *arguments]


def scripted(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPTED, code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read stdout until a line holds `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came: {process.stderr and process.stderr.read()}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A home in which the command line has run EDA over a small file, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    rows = "\n".join(f"{i},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(60))
    (folder / "small.csv").write_text(f"x,y,answer\n{rows}\n")
    home = str(folder / "home")
    result = subprocess.run(
        command("run", "small.csv", "--target", "answer", "--stage", "eda", "--json"),
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(TRAINABLE_HOME=home),
        timeout=120,
    )
    return {"home": home, "result": result}


@pytest.fixture
def home(finished: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TRAINABLE_HOME", finished["home"])
    return finished["home"]


# What is shown follows from events


def test_a_stage_is_shown_step_by_step() -> None:
    view, lines = SessionView(), []
    for event in recorded():
        view = reduce(view, event)
        lines += printed(rows_of(view, event))
    assert lines == [
        "  !    Not isolated.",
        "       Only the playbook runs.",
        "  ✓ 01 Draw it                                        1 figure, 1 file"
        "                        0:03.1",
        "  ✓ 02 Fit a model                                    val loss 0.500 █▇▅▄▂▁"
        "                     1:10",
        "  ! Validation                                        3 passed, 1 warning"
        "                     0:02.0",
        "  !    All models are within the noise.",
    ]


def test_a_stored_stage_is_shown_like_a_live_one() -> None:
    view, live = SessionView(), []
    for event in recorded():
        view = reduce(view, event)
        live += printed(rows_of(view, event))
    assert printed(stage_rows(view.stages[0])) == ["Train", *live]


def test_the_header_says_who_works_where() -> None:
    view = view_of(recorded()[:3])
    assert printed(header(ABOUT, view.stages[0])) == [
        "churn 9c02   playbook, free   local sandbox: not isolated",
        "churn.csv, 10 rows",
        "",
    ]


def test_the_moving_part_shows_the_step_its_output_and_the_time() -> None:
    view = view_of(recorded()[:14])
    lines = printed(moving_rows(view, START, START + timedelta(seconds=65), "Ctrl-C stops"))
    assert lines == [
        "    Now I fit.",
        "  ● 02 Fit a model                                    val loss 0.500 █▇▅▄▂▁"
        "                     1:00",
        "    │ one",
        "    │ two",
        "    │ th",
        "",
        "  1:05 elapsed   Ctrl-C stops",
    ]


def test_nothing_moves_when_nothing_runs() -> None:
    assert moving_rows(view_of(recorded()), START, START, "") == []


def test_a_stage_that_runs_again_replaces_itself_and_what_was_built_on_it() -> None:
    events = [*recorded(stage=Stage.EDA), *recorded(stage=Stage.PREP), recorded(stage=Stage.EDA)[0]]
    assert [stage.stage for stage in view_of(events).stages] == [Stage.EDA]


def test_a_failure_shows_the_reason_the_remedy_and_what_is_kept() -> None:
    error = AgentError(error="Out of memory.", code="memory", remedy="Use fewer rows.")
    view = ended_with(
        ToolEnd(output="", exit_code=1, seconds=1), error, StateChange(state="failed")
    )
    assert printed(ending_rows(view)) == [
        "",
        "    │ one",
        "    │ two",
        "    │ three",
        "✗ Out of memory.",
        "  Use fewer rows. (memory)",
        "  Kept: 1 finished step of Train.",
    ]


def test_a_stop_shows_where_and_what_is_kept() -> None:
    view = ended_with(AgentAborted(reason="You stopped this run."), StateChange(state="cancelled"))
    assert printed(ending_rows(view)) == [
        "",
        "! You stopped this run. Train was in step 2.",
        "  Kept: 1 finished step of Train.",
    ]


def test_a_score_never_stands_without_its_interval() -> None:
    score = Score(
        metric="roc_auc",
        value=0.8541,
        ci95=(0.83, 0.877),
        rows=1057,
        baseline=0.5,
        model="LightGBM",
    )
    assert printed([score_row(score)]) == [
        "Test ROC AUC 0.854  95% CI 0.830 to 0.877  1,057 rows, scored once, baseline 0.500"
    ]


def test_results_are_named_with_paths_and_commands() -> None:
    assert result_pairs(ABOUT, view_of(recorded())) == [
        ("report", "/data/volume/sessions/1/train/report.md"),
        ("model", "/data/volume/sessions/1/train/models/model.pkl"),
        ("data", "trainable sql 9c02 'FROM train LIMIT 5'"),
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 100, 200])
def test_no_row_is_wider_than_the_terminal(width: int) -> None:
    view = view_of(recorded()[:16])
    assert max(len(line) for line in printed(stage_rows(view.stages[0]), width)) <= width


def test_hostile_text_is_printed_as_plain_characters() -> None:
    code = "# Draw [red]a[/red]\x1b[31m \x1b]0;title\x07b\u202ec"
    step = ToolStart(input=ToolInput(code=code), script="s", step=1, stage=Stage.TRAIN)
    text = "\n".join(printed(stage_rows(view_of([*recorded()[:1], step]).stages[0])))
    assert "01 Draw [red]a[/red] bc" in text


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ('"""Read all rows. Then more."""\nimport os', "Read all rows"),
        ("import os\n\n# Plot the target:\n", "Plot the target"),
        ("x = 1", "make it so"),
    ],
)
def test_a_step_is_named_after_what_its_code_says(code: str, title: str) -> None:
    assert title_of(code, "sessions/1/eda/scripts/step_03_make_it_so.py") == title


def test_text_is_cut_at_the_end_of_a_clause_or_of_a_word() -> None:
    assert shorten("Score each feature, and name leaks", 24) == "Score each feature"
    assert shorten("Split rows into train, validation and test", 24) == "Split rows into train…"
    assert shorten("数据" * 10, 9) == "数据数据…"


def test_numbers_are_written_as_people_read_them() -> None:
    assert [clock(3.14, tenths=True), clock(75), clock(3725)] == ["0:03.1", "1:15", "1:02:05"]
    assert [age(START, START + timedelta(hours=h)) for h in (0, 5, 50)] == ["0s", "5h", "2d"]
    assert sparkline([0, 1]) == "" and sparkline([0, 1, 2]) == "▁▅█"
    assert short_id("abcdef", ["abcdef", "abcdxx"]) == "abcde"
    assert clean_line("a\tb\r\nc\x00") == "a b c"


# Usage


def test_the_version_is_printed() -> None:
    assert invoke("--version").stdout == f"trainable {trainable.__version__}\n"


def test_no_command_prints_the_help() -> None:
    result = invoke()
    assert result.exit_code == 0 and "demo" in result.stdout


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, trainable.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    heavy = {"asyncio", "pandas", "numpy", "pydantic", "sqlmodel", "sklearn", "rich.console"}
    assert heavy & set(loaded.split()) == set()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["rn"], 2, ["'rn'", "Did you mean 'run'?"]),
        (["run"], 2, ["DATA", "trainable run --help"]),
        (["run", "x.csv", "--targte", "y"], 2, ["--targte", "--target"]),
        (["run", "x.csv", "--timeout", "soon"], 2, ["'--timeout'", "number"]),
        (["run", "x.csv", "--stage", "pred"], 2, ["'pred'", "Did you mean 'prep'?"]),
        (["run", "x.csv", "--stage", "prep"], 2, ["Prep needs a finished EDA"]),
        (["run", "absent.csv"], 2, ["absent.csv"]),
        (["run", "data.csv", "--target", "survivd"], 2, ["Did you mean 'survived'?"]),
        (["run", "data.csv", "--agent", "claude"], 3, ["Use --agent playbook."]),
        (["run", "data.csv", "--sandbox", "modal"], 3, ["local"]),
        (["show", "latest"], 2, ["no session yet"]),
        (["sql", "12ab", "FROM raw"], 2, ["'12ab'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_message_and_an_exit_code(
    arguments: list[str],
    code: int,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "data.csv").write_text("age,survived\n" + "1,0\n2,1\n" * 20)
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    message = " ".join(result.stderr.split())
    assert (result.exit_code, result.stdout) == (code, "")
    assert message.startswith("✗ ") and [word for word in words if word not in message] == []


def test_a_mistake_leaves_no_session_behind(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,2\n3,4\n")
    assert invoke("run", str(tmp_path / "data.csv"), "--stage", "train").exit_code == 2
    assert trainable.sessions() == []


def test_without_sessions_the_list_says_how_to_start() -> None:
    result = invoke("sessions")
    assert (result.exit_code, result.stdout) == (0, "") and "trainable demo" in result.stderr


# A finished stage, looked at from other processes


def test_a_run_prints_events_on_stdout_and_lines_on_stderr(finished: dict[str, Any]) -> None:
    result = finished["result"]
    events = [parse_event(line) for line in result.stdout.splitlines()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], StateChange) and events[-1].state == "eda_done"
    assert "✓ Validation" in result.stderr or "! Validation" in result.stderr
    assert re.search(r"report +/\S+/eda/report\.md\n", result.stderr)
    assert "\x1b" not in result.stderr and result.returncode == 0


def test_a_quiet_run_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("a,b\n" + "1,0\n2,1\n" * 30)
    arguments = ("run", str(tmp_path / "two.csv"), "--stage", "eda", "--quiet")
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), timeout=120
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_output_without_unicode_is_no_failure(home: str) -> None:
    result = subprocess.run(
        command("show", "latest"), capture_output=True, env=environment(PYTHONIOENCODING="ascii")
    )
    assert (result.returncode, result.stderr) == (0, b"")


def test_sessions_are_listed_as_a_table_and_as_json(home: str) -> None:
    table = invoke("sessions").stdout
    assert "small" in table and "EDA done" in table
    (line,) = invoke("sessions", "--json").stdout.splitlines()
    session = json.loads(line)
    assert session["state"] == "eda_done"
    assert session["stages"]["prep"] == "waiting"


def test_show_repeats_the_run_and_says_what_comes_next(home: str) -> None:
    result = invoke("show", "latest")
    assert result.exit_code == 0
    assert "✓ 01 " in result.stdout and "Prep, not started" in result.stdout
    assert re.search(r"trainable resume [0-9a-f]{4}\n", result.stdout)


def test_events_can_start_behind_a_number(home: str) -> None:
    lines = invoke("events", "latest", "--after", "2", "--json").stdout.splitlines()
    assert parse_event(lines[0]).seq == 3
    assert "state_change" in invoke("events", "latest").stdout


def test_sql_prints_a_table_or_json_lines(home: str) -> None:
    query = "SELECT answer, count(*) AS n FROM raw GROUP BY 1 ORDER BY 1"
    table = invoke("sql", "latest", query)
    assert table.stdout.split()[:2] == ["answer", "n"] and "2 rows" in table.stderr
    rows = [
        json.loads(line) for line in invoke("sql", "latest", query, "--json").stdout.split("\n")[:2]
    ]
    assert rows == [{"answer": "no", "n": 20}, {"answer": "yes", "n": 40}]


def test_following_goes_on_until_ctrl_c(home: str) -> None:
    with subprocess.Popen(
        command("events", "latest", "--follow", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        wait_for(process, "eda_done")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "\nInterrupted.\n")


def test_a_refused_query_is_a_sentence(home: str) -> None:
    result = invoke("sql", "latest", "DROP TABLE raw")
    assert result.exit_code == 2 and result.stderr.startswith("✗ ")


def test_cancelling_what_does_not_run_is_no_failure(home: str) -> None:
    result = invoke("cancel", "latest")
    assert result.exit_code == 0 and "Nothing runs in small" in result.stderr


def test_resuming_a_stage_out_of_order_is_refused(home: str) -> None:
    result = invoke("resume", "latest", "--stage", "train")
    assert result.exit_code == 2 and "Train needs a finished Prep" in result.stderr


def test_a_closed_pipe_ends_quietly(home: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        command("events", "latest"), stdout=writer, stderr=subprocess.PIPE, env=environment()
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


# Runs that do not end well


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_says_what_is_kept(number: signal.Signals) -> None:
    with scripted(ENDLESS, "--json") as process:
        wait_for(process, "under way")
        process.send_signal(number)
        sent = time.monotonic()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - sent < 8
    assert "You stopped this run. EDA was in step 1." in stderr
    assert "trainable resume" in stderr and TRACEBACK not in stderr


def test_a_second_signal_leaves_at_once_without_a_traceback() -> None:
    with scripted(ENDLESS, "--json") as process:
        wait_for(process, "under way")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and TRACEBACK not in stderr


def test_a_reader_that_goes_away_stops_the_run() -> None:
    with scripted("import itertools\nfor i in itertools.count(): print(i)", "--json") as process:
        wait_for(process, "code_output")
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert TRACEBACK not in stderr


def test_another_process_can_stop_the_run() -> None:
    with scripted(ENDLESS, "--json") as process:
        wait_for(process, "under way")
        asked = subprocess.run(
            command("cancel", "latest"), capture_output=True, text=True, env=environment()
        )
        process.communicate(timeout=30)
    assert (asked.returncode, process.returncode) == (0, 130)
    assert "Stopped tiny" in asked.stderr


def test_outputs_that_fail_their_checks_are_exit_code_1() -> None:
    with scripted("# Say hello\nprint('hello')") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "✓ 02 Say hello" in stderr and "✗ Validation" in stderr and TRACEBACK not in stderr


def test_a_terminal_gets_a_moving_part_that_ctrl_c_takes_away() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            sys.executable, [sys.executable, "-c", SCRIPTED, ENDLESS], environment(TERM="xterm")
        )
    shown = "".join(read_until(terminal, "under way"))
    os.write(terminal, b"\x03")
    after = "".join(read_until(terminal, "trainable show"))
    while read(terminal):
        pass
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert "Wait for good" in shown and "elapsed" in shown
    assert "\x1b[?25h" in after and TRACEBACK not in after


def read(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode("utf-8", "replace")
    except OSError:  # how Linux says that the other end is closed
        return ""


def read_until(terminal: int, text: str) -> Iterator[str]:
    seen = ""
    while text not in seen:
        chunk = read(terminal)
        assert chunk, seen
        seen += chunk
        yield chunk

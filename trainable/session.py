"""A session: one pass of EDA, Prep and Train over a dataset."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.agent.base import Agent, Brief
from trainable.agent.choose import choose_agent
from trainable.artifacts import Artifact
from trainable.drive import Plan
from trainable.errors import InputError, NotFoundError
from trainable.events import Event, SandboxStarted, UnknownEvent, Usage, ValidationResult
from trainable.experiment import Experiment, register
from trainable.home import Home, default_home
from trainable.message import Message
from trainable.outputs import read_json, read_report
from trainable.runs import Run, follow
from trainable.sandbox.base import Sandbox
from trainable.sandbox.choose import choose_sandbox
from trainable.sandbox.limits import Limits
from trainable.sandbox.local import LocalSandbox
from trainable.stages import Stage, parse_stage
from trainable.storage.tables import SessionRow

if TYPE_CHECKING:
    import pandas as pd

    from trainable.dataset import Data

TASKS = ("classification", "regression")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Score:
    """How good the final model is on the test set, which was used once."""

    metric: str
    value: float
    ci95: tuple[float, float]
    """Bootstrap 95 % interval."""
    rows: int
    baseline: float | None
    """The same metric for a model that ignores the features."""
    model: str


class Session:
    """Runs the three stages over one dataset and keeps everything that happens."""

    def __init__(  # noqa: PLR0913  # a user's choices, all by name
        self,
        data: "Data | Experiment",
        *,
        target: str | None = None,
        task: str | None = None,
        group: str | None = None,
        time: str | None = None,
        name: str | None = None,
        description: str = "",
        instructions: str = "",
        agent: "Agent | str" = "auto",
        sandbox: "Sandbox | str" = "auto",
        gpu: str | None = None,
        limits: Limits | None = None,
        isolation: str | None = None,
        timeout: float = 600,
        max_turns: int = 30,
        home: Home | None = None,
    ) -> None:
        """Register the data; nothing runs yet.

        Args:
            data: A path, a folder, several paths, a DataFrame, a mapping of names to
                DataFrames, or an `Experiment`. CSV, TSV, parquet, JSON, JSONL, xlsx and zip or
                gz of them are read.
            target: Column to predict. Without it EDA suggests one and Prep takes it.
            task: `classification` or `regression`; without it EDA decides.
            group: Column whose rows must stay in one split (a patient, a store).
            time: Column to split by, so that the test set lies in the future.
            name: Name of the experiment; the file's name by default.
            description: What the data is.
            instructions: What you want, in your own words.
            agent: `"auto"`, `"playbook"`, or an object (see `trainable.agent.base.Agent`).
            sandbox: `"auto"`, `"local"`, or an object.
            gpu: For sandboxes that have one; refused by the local one.
            limits: What a step may use of the machine; more than that ends the step alone.
            isolation: The walls to use, by default the best that work here. `"none"` lets code
                that a model wrote run without any.
            timeout: Seconds that one step may take.
            max_turns: Steps that an agent may take in a stage.
            home: Where to keep everything; by default what `TRAINABLE_HOME` names.

        Raises:
            DataError: The data cannot be read or used.
            TargetError: `target`, `group` or `time` is no column of it.
            InputError: Another argument makes no sense.
            UnavailableError: The agent or the sandbox asked for is not there.
            StorageError: It cannot be stored.
        """
        if task is not None and task not in TASKS:
            raise InputError(f"There is no task {task!r}.", remedy=f"Use one of {TASKS}.")
        if timeout <= 0 or max_turns < 1:
            raise InputError("timeout and max_turns must be above zero.")
        self._home = home or default_home()
        self._agent, self._sandbox = agent, sandbox
        self._isolation, self._gpu = isolation, gpu
        choose_agent(agent)  # refuses what is not there, before anything is stored
        self._chosen_sandbox()
        experiment = register(
            self._home,
            data,
            {"target": target, "group": group, "time": time},
            name=name,
            description=description,
            instructions=instructions,
        )
        row = SessionRow(
            experiment_id=experiment.id,
            name=name or experiment.name,
            target=target,
            task=task,
            group_column=group,
            time_column=time,
            instructions=instructions or experiment.instructions,
            options={
                "agent": agent if isinstance(agent, str) else "auto",
                "sandbox": sandbox if isinstance(sandbox, str) else "auto",
                "timeout": timeout,
                "max_turns": max_turns,
                "limits": {} if limits is None else asdict(limits),
            },
        )
        self.id = row.id
        self._home.database.add_session(row)

    @classmethod
    def load(
        cls,
        session_id: str = "latest",
        *,
        agent: "Agent | str | None" = None,
        sandbox: "Sandbox | str | None" = None,
        isolation: str | None = None,
        home: Home | None = None,
    ) -> "Session":
        """Return a stored session by its id, a unique beginning of it, or `"latest"`.

        Args:
            session_id: Which session.
            agent: Who works from now on, instead of whom the session was made with.
            sandbox: Where code runs from now on. Objects are not stored: pass them again.
            isolation: As for a new session; it is not stored either.
            home: Where to look.

        Raises:
            NotFoundError: There is none, or more than one.
        """
        home = home or default_home()
        home.database.reap()
        session = cls.of(home.database.find_session(session_id), home)
        session._agent = agent or session._agent
        session._sandbox = sandbox or session._sandbox
        session._isolation = isolation
        return session

    @classmethod
    def of(cls, row: SessionRow, home: Home) -> "Session":
        """Return the session that `row` describes."""
        session = cls.__new__(cls)
        session._home = home
        session._agent, session._sandbox = row.options["agent"], row.options["sandbox"]
        session._isolation, session._gpu = None, None
        session.id = row.id
        return session

    @property
    def name(self) -> str:
        """Name of the session; that of its experiment by default."""
        return self._row().name

    @property
    def target(self) -> str | None:
        """Column to predict: the one asked for, else the one that Prep took or EDA suggests."""
        row = self._row()
        if row.target is not None:
            return row.target
        if meta := self._home.database.dataset_meta(self.id):
            return meta.target_column
        profile = read_json(self._home.volume, f"sessions/{self.id}/eda/data/profile.json")
        return (profile or {}).get("target", {}).get("name")

    @property
    def state(self) -> str:
        """`created`, `eda_running`, `eda_done` ... `train_done`, `failed` or `cancelled`."""
        self._home.database.reap()
        return self._row().state

    @property
    def experiment(self) -> Experiment:
        """The dataset and the question."""
        return Experiment.of(self._home.database.experiment(self._row().experiment_id))

    @property
    def usage(self) -> Usage:
        """What all runs of the session have used together."""
        used = self._home.database.events_of(self.id, Usage)
        return Usage(
            session_id=self.id,
            input_tokens=sum(event.input_tokens for event in used),
            output_tokens=sum(event.output_tokens for event in used),
            cache_read_tokens=sum(event.cache_read_tokens for event in used),
            cost_usd=sum(event.cost_usd for event in used),
            turns=sum(event.turns for event in used),
            seconds=round(sum(event.seconds for event in used), 3),
        )

    @property
    def sandbox(self) -> SandboxStarted | None:
        """Where the last run's code ran: how it was isolated, and what that does not guard."""
        found = self._home.database.events_of(self.id, SandboxStarted)
        return found[-1] if found else None

    @property
    def score(self) -> Score | None:
        """The final model's score on the test set; None before Train is done."""
        found = read_json(self._home.volume, f"sessions/{self.id}/train/data/metadata.json")
        try:
            headline = (found or {})["headline"]
            low, high = headline["ci95"]
            return Score(
                metric=headline["metric"],
                value=float(headline["value"]),
                ci95=(float(low), float(high)),
                rows=int(headline["rows"]),
                baseline=headline.get("baseline"),
                model=str((found or {})["best_model"]),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def run(
        self, stage: Stage | str, prompt: str | None = None, agent: "Agent | str | None" = None
    ) -> Run:
        """Start a stage; it goes on by itself while you iterate, await or do something else.

        Args:
            stage: `eda`, `prep` or `train`.
            prompt: What you want from this run in particular.
            agent: Another agent than the session's.

        Raises:
            UnknownStageError: There is no such stage.
            StageOrderError: The stage before has not passed.
            SessionBusyError: The session is running a stage already.
            UnavailableError: The agent or the sandbox is not there.
        """
        stage = parse_stage(stage)
        row = self._row()
        worker, why = choose_agent(agent or self._agent)
        sandbox, where = self._chosen_sandbox()
        if isinstance(sandbox, LocalSandbox):
            where = sandbox.describe(trusted=worker.trusted)
        brief = Brief(
            stage=stage,
            target=row.target,
            task=row.task,
            group=row.group_column,
            time=row.time_column,
            instructions=row.instructions,
            prompt=prompt,
            context=self._report(stage.requires) or "",
            workdir=self._home.volume.make_folder(f"sessions/{self.id}/{stage.value}"),
            max_turns=row.options["max_turns"],
        )
        plan = Plan(
            session=row,
            brief=brief,
            agent=worker,
            sandbox=sandbox,
            timeout=row.options["timeout"],
            limits=Limits(**row.options.get("limits", {})),
        )
        return Run(self._home, plan, reason=f"{why} {where}")

    def cancel(self, reason: str = "You stopped this run.") -> bool:
        """Ask the stage that runs, in whatever process, to stop; False when none does."""
        self._home.database.reap()
        return self._home.database.request_cancel(self.id, reason)

    def events(self, after: int = 0) -> list[Event | UnknownEvent]:
        """Return the stored events whose `seq` is above `after`."""
        found: list[Event | UnknownEvent] = []
        while batch := self._home.database.read_events(self.id, after):
            found += batch
            after = batch[-1].seq
        return found

    async def follow(self, after: int = 0) -> AsyncIterator[Event | UnknownEvent]:
        """Yield the stored events above `after`, then live ones from any process, without end."""
        async for event in follow(self._home, self.id, after):
            yield event

    def report(self, stage: Stage | str) -> str:
        """Return the report of a stage, as markdown.

        Raises:
            NotFoundError: The stage has not written one yet.
        """
        stage = parse_stage(stage)
        report = self._report(stage)
        if report is None:
            raise NotFoundError(
                f"{stage.label} has no report yet.", remedy=f"Run {stage.value!r} first."
            )
        return report

    def artifacts(self, stage: Stage | str | None = None) -> list[Artifact]:
        """Return the files of one stage, or of all of them."""
        only = None if stage is None else parse_stage(stage)
        rows = self._home.database.artifacts(self.id, only)
        return [Artifact.of(row, self._home) for row in rows]

    def validation(self, stage: Stage | str) -> ValidationResult:
        """Return what the last check of a stage found.

        Raises:
            NotFoundError: The stage was not checked yet.
        """
        stage = parse_stage(stage)
        results = self._home.database.events_of(self.id, ValidationResult)
        found = [result for result in results if result.stage is stage]
        if not found:
            raise NotFoundError(
                f"{stage.label} was not checked yet.", remedy=f"Run {stage.value!r} first."
            )
        return found[-1]

    def messages(self) -> list[Message]:
        """Return the conversation, oldest first."""
        return [
            Message(
                role=row.role,
                text=row.content,
                stage=Stage(row.metadata_["stage"]) if row.metadata_.get("stage") else None,
                time=row.created_at,
            )
            for row in self._home.database.messages(self.id)
        ]

    def metrics(self) -> "pd.DataFrame":
        """Return every logged number: `stage, step, name, value, run_tag, time`."""
        import pandas as pd

        columns = ["stage", "step", "name", "value", "run_tag", "time"]
        return pd.DataFrame(self._home.database.metrics(self.id), columns=columns)

    def sql(self, query: str, *, limit: int = 10_000, timeout: float = 10.0) -> "pd.DataFrame":
        """Return the result of one SELECT over `raw`, `train`, `val`, `test` and `all_data`.

        Args:
            query: One statement in DuckDB's SQL.
            limit: Rows to return; `attrs["truncated"]` of the frame says whether there were more.
            timeout: Seconds after which the query is stopped.

        Raises:
            QueryError: It is no single SELECT, fails, or exceeds a limit.
        """
        from trainable.explorer import Explorer

        volume = self._home.volume
        tables = {"raw": volume.path(f"datasets/{self._row().experiment_id}/raw.parquet")}
        for split in SPLITS:
            path = volume.path(f"sessions/{self.id}/prep/data/{split}.parquet")
            if path.is_file():
                tables[split] = path
        with tempfile.TemporaryDirectory(prefix="trainable-") as folder:
            explorer = Explorer(self._home.sandbox(), tables, Path(folder))
            return self._home.loop.run(explorer.query(query, limit=limit, timeout=timeout))

    def __repr__(self) -> str:
        row = self._row()
        return f"<Session {self.id[:8]} of {row.name!r}: {row.state}>"

    def _row(self) -> SessionRow:
        return self._home.database.session(self.id)

    def _report(self, stage: Stage | None) -> str | None:
        if stage is None:
            return None
        return read_report(self._home.volume, f"sessions/{self.id}/{stage.value}")

    def _chosen_sandbox(self) -> tuple[Sandbox, str]:
        return choose_sandbox(
            self._sandbox, cache=self._home.cache, isolation=self._isolation, gpu=self._gpu
        )

"""What can happen in a session: one frozen model for each type of event.

This module is the contract between the library, the database and the browser. On the wire an
event is one flat, strict JSON object; `jupyter_ext/src/events.ts` and `docs/events.md` are
generated from these models. Readers skip types and fields that they don't know, so adding
either is not a breaking change.
"""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from trainable.stages import Stage


def _now() -> datetime:
    return datetime.now(UTC)


class BaseEvent(BaseModel, frozen=True):
    """The fields that every event has."""

    model_config = ConfigDict(
        extra="ignore",
        ser_json_inf_nan="null",
        json_schema_serialization_defaults_required=True,
    )
    transient: ClassVar[bool] = False
    """Whether the event is delivered to readers of this process without being stored."""

    seq: int = 0
    """Position in the session's log, from 1 without gaps; 0 until it is stored."""
    type: str
    session_id: str = ""
    stage: Stage | None = None
    time: datetime = Field(default_factory=_now)


class RunStarted(BaseEvent, frozen=True):
    """A stage was started, by which agent, and why that agent and sandbox."""

    type: Literal["run_started"] = "run_started"
    run_id: str
    agent: str
    model: str | None = None
    reason: str = ""


class Notice(BaseEvent, frozen=True):
    """Something the user should know that is no failure."""

    type: Literal["notice"] = "notice"
    code: str
    text: str
    remedy: str = ""


class StateChange(BaseEvent, frozen=True):
    """The session's state changed, e.g. to `eda_running` or `prep_done`."""

    type: Literal["state_change"] = "state_change"
    state: str


class UserMessage(BaseEvent, frozen=True):
    """The user said something to the agent."""

    type: Literal["user_message"] = "user_message"
    text: str


class SandboxStarted(BaseEvent, frozen=True):
    """The box in which the stage's code runs is ready."""

    type: Literal["sandbox_started"] = "sandbox_started"
    backend: str
    isolation: str
    missing: list[str] = []
    """Guarantees that this level of isolation does not give."""
    limits: dict[str, float] = {}


class AgentMessage(BaseEvent, frozen=True):
    """The agent said something, as markdown."""

    type: Literal["agent_message"] = "agent_message"
    text: str


class AgentDelta(BaseEvent, frozen=True):
    """A piece of text or code that the model is still writing; not stored."""

    type: Literal["agent_delta"] = "agent_delta"
    transient: ClassVar[bool] = True
    text: str = ""
    code: str = ""


class AgentRetry(BaseEvent, frozen=True):
    """The model's service failed and the agent tries again."""

    type: Literal["agent_retry"] = "agent_retry"
    attempt: int
    max_attempts: int
    reason: str
    delay: float
    """Seconds until the next attempt."""


class ToolInput(BaseModel):
    """What `execute_code` was called with."""

    model_config = ConfigDict(frozen=True)
    code: str


class ToolStart(BaseEvent, frozen=True):
    """The agent's code is about to run."""

    type: Literal["tool_start"] = "tool_start"
    tool: str = "execute_code"
    input: ToolInput
    script: str
    """Where the code was saved, relative to the volume."""
    step: int


class CodeOutput(BaseEvent, frozen=True):
    """Running code printed something."""

    type: Literal["code_output"] = "code_output"
    stream: Literal["stdout", "stderr"]
    text: str


class ToolEnd(BaseEvent, frozen=True):
    """The agent's code ended; `output` is what the agent got to read."""

    type: Literal["tool_end"] = "tool_end"
    tool: str = "execute_code"
    output: str
    exit_code: int
    seconds: float
    timed_out: bool = False


class FileCreated(BaseEvent, frozen=True):
    """Code wrote a file; `changed` when the file had been announced before."""

    type: Literal["file_created"] = "file_created"
    path: str
    name: str
    size: int
    """Bytes."""
    changed: bool = False


class ReportReady(BaseEvent, frozen=True):
    """The stage's report is written."""

    type: Literal["report_ready"] = "report_ready"
    content: str


class FilesReady(BaseEvent, frozen=True):
    """All files of the stage, once the agent has ended."""

    type: Literal["files_ready"] = "files_ready"
    files: list[str]


class MetricItem(TypedDict):
    """One logged number; `value` is null where it was not a finite one.

    A dictionary and no model, since a run logs them by the million.
    """

    step: int
    name: str
    value: float | None
    stage: Stage | None
    run_tag: str | None


class MetricsBatch(BaseEvent, frozen=True):
    """Numbers that code logged, gathered over at most 50 ms."""

    type: Literal["metrics_batch"] = "metrics_batch"
    items: list[MetricItem]
    not_finite: list[str] = []
    """Names of the metrics whose value is null because it was NaN or infinite."""

    def metrics(self) -> list[tuple[int, dict[str, float | None], str | None]]:
        """Return the batch as `log()` calls: `(step, metrics, run)`, in order."""
        calls: dict[tuple[int, str | None], dict[str, float | None]] = defaultdict(dict)
        for item in self.items:
            calls[item["step"], item["run_tag"]][item["name"]] = item["value"]
        return [(step, values, run) for (step, run), values in calls.items()]


class Chart(BaseModel):
    """One live chart."""

    model_config = ConfigDict(frozen=True)
    title: str
    metrics: list[str]
    type: Literal["line", "bar", "scatter"] = "line"


class ChartConfig(BaseEvent, frozen=True):
    """The agent chose the live charts."""

    type: Literal["chart_config"] = "chart_config"
    charts: list[Chart]


class Finding(BaseModel):
    """One check of a validator: a stable code, a plain sentence and its evidence."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="null")
    code: str
    message: str


class ValidationResult(BaseEvent, frozen=True):
    """The host checked the stage's outputs; the stage is done only without errors."""

    type: Literal["validation_result"] = "validation_result"
    passed: list[Finding]
    warnings: list[Finding]
    errors: list[Finding]


class TestScored(BaseEvent, frozen=True):
    """The host scored the sealed test set, once."""

    __test__: ClassVar[bool] = False  # pytest takes the name for a test class
    type: Literal["test_scored"] = "test_scored"
    metrics: dict[str, Any]
    rows: int
    ledger_id: str


class S3SyncComplete(BaseEvent, frozen=True):
    """The stage's files were copied to S3."""

    type: Literal["s3_sync_complete"] = "s3_sync_complete"
    files_synced: int
    bytes: int
    s3_prefix: str


class S3SyncFailed(BaseEvent, frozen=True):
    """The stage's files could not all be copied to S3; the stage stays done."""

    type: Literal["s3_sync_failed"] = "s3_sync_failed"
    error: str
    remedy: str = ""


class Usage(BaseEvent, frozen=True):
    """What the run has used so far."""

    type: Literal["usage"] = "usage"
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0
    turns: int = 0
    seconds: float = 0.0


class AgentError(BaseEvent, frozen=True):
    """The run failed: why, and what to do."""

    type: Literal["agent_error"] = "agent_error"
    error: str
    code: str
    remedy: str = ""


class AgentAborted(BaseEvent, frozen=True):
    """The run was stopped by the user."""

    type: Literal["agent_aborted"] = "agent_aborted"
    reason: str


class UnknownEvent(BaseEvent, frozen=True):
    """An event of a newer version, kept whole."""

    model_config = ConfigDict(extra="allow")


Event = (
    RunStarted
    | Notice
    | StateChange
    | UserMessage
    | SandboxStarted
    | AgentMessage
    | AgentDelta
    | AgentRetry
    | ToolStart
    | CodeOutput
    | ToolEnd
    | FileCreated
    | ReportReady
    | FilesReady
    | MetricsBatch
    | ChartConfig
    | ValidationResult
    | TestScored
    | S3SyncComplete
    | S3SyncFailed
    | Usage
    | AgentError
    | AgentAborted
)
EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse_event(wire: str | bytes | dict[str, Any]) -> Event | UnknownEvent:
    """Return the event that `wire` (JSON text or its dictionary) describes.

    Raises:
        pydantic.ValidationError: It has no `type`, or a known type with wrong fields.
    """
    python = isinstance(wire, dict)
    try:
        return EVENT_ADAPTER.validate_python(wire) if python else EVENT_ADAPTER.validate_json(wire)
    except ValidationError as error:
        if error.errors()[0]["type"] != "union_tag_invalid":
            raise
    return UnknownEvent.model_validate(wire) if python else UnknownEvent.model_validate_json(wire)

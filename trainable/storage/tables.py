"""The tables: what Trainable remembers, one class for each kind of row.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment, stored as UTC and returned aware of it (SQLite knows no zones)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Turn an aware moment into what the database keeps."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Turn what the database keeps into an aware moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


UTC_TIME: Any = UtcDateTime  # `sa_type` is annotated with classes of plain types only


def new_id() -> str:
    """Return a fresh UUID as text."""
    return str(uuid4())


def utc_now() -> datetime:
    """Return the current moment in UTC."""
    return datetime.now(UTC)


METADATA = sa.MetaData(
    # Constraints need names for a later migration to change them.
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Apart from `SQLModel.metadata`, where a notebook may have tables of the same names."""


class Row(SQLModel, registry=registry(metadata=METADATA)):
    """What all tables have in common."""

    __tablename__: ClassVar[Any]  # pyright: ignore[reportIncompatibleVariableOverride]


class ExperimentRow(Row, table=True):
    """A dataset and the question about it."""

    __tablename__ = "experiments"

    id: str = Field(default_factory=new_id, primary_key=True)
    name: str
    description: str = ""
    dataset_ref: str = ""
    """Where the data came from: a path, or an `s3://` address."""
    instructions: str = Field(default="", sa_type=sa.Text)
    rows: int | None = Field(default=None, sa_type=sa.BigInteger)
    columns: int | None = None
    source: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    """How the data was read: format, encoding, delimiter ..."""
    created_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME, index=True)


class SessionRow(Row, table=True):
    """One pass of the three stages over an experiment."""

    __tablename__ = "sessions"

    id: str = Field(default_factory=new_id, primary_key=True)
    experiment_id: str = Field(foreign_key="experiments.id", index=True)
    name: str = ""
    state: str = "created"
    """Follows from the session's runs, and is written with them."""
    target: str | None = None
    task: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    instructions: str = Field(default="", sa_type=sa.Text)
    options: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    """How its runs are done: agent, sandbox, model, limits ..."""
    last_seq: int = Field(default=0, sa_type=sa.BigInteger)
    """`seq` of its newest event."""
    created_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME, index=True)
    updated_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME)


class RunRow(Row, table=True):
    """One execution of one stage."""

    __tablename__ = "runs"
    __table_args__ = (sa.UniqueConstraint("session_id", "number"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    session_id: str = Field(foreign_key="sessions.id")
    number: int = 0
    """Position among the session's runs, from 1; given when it starts."""
    stage: str
    agent: str = ""
    model: str | None = None
    state: str = "running"
    reason: str | None = None
    """Code of why it failed or was cancelled."""
    stale: bool = False
    """Whether a stage that this one builds on was run again afterwards."""
    cancel_reason: str | None = None
    """Set when someone asks for the run to be cancelled."""
    first_seq: int = Field(default=0, sa_type=sa.BigInteger)
    last_seq: int | None = Field(default=None, sa_type=sa.BigInteger)
    started_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME)
    ended_at: datetime | None = Field(default=None, sa_type=UTC_TIME)


class LeaseRow(Row, table=True):
    """Who may run a session now; `epoch` rises with every change of hands."""

    __tablename__ = "leases"

    session_id: str = Field(foreign_key="sessions.id", primary_key=True)
    run_id: str | None = None
    owner: str | None = None
    """None while nobody runs the session."""
    epoch: int = Field(default=0, sa_type=sa.BigInteger)
    expires_at: float = 0.0
    """Unix time by the database's clock."""


class EventRow(Row, table=True):
    """One event; `data` is exactly what goes over the wire."""

    __tablename__ = "events"

    session_id: str = Field(foreign_key="sessions.id", primary_key=True)
    seq: int = Field(sa_type=sa.BigInteger, primary_key=True)
    type: str
    data: str = Field(sa_type=sa.Text)


class MessageRow(Row, table=True):
    """One line of the conversation between the user, the agent and its tool."""

    __tablename__ = "messages"
    __table_args__ = (sa.UniqueConstraint("session_id", "seq"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    session_id: str = Field(foreign_key="sessions.id")
    seq: int = Field(sa_type=sa.BigInteger)
    """`seq` of the event that it repeats."""
    role: str
    """`user`, `assistant`, `tool` or `system`."""
    content: str = Field(sa_type=sa.Text)
    metadata_: dict[str, Any] = Field(
        default_factory=dict, sa_type=sa.JSON, sa_column_kwargs={"name": "metadata"}
    )
    """Event type, stage, and what a tool said beside its output."""
    created_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME)


class ArtifactRow(Row, table=True):
    """A file that a stage produced."""

    __tablename__ = "artifacts"
    __table_args__ = (sa.UniqueConstraint("session_id", "path"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    session_id: str = Field(foreign_key="sessions.id")
    stage: str
    type: str
    """`report`, `chart`, `dataset`, `model`, `script`, `metadata` or `file`."""
    name: str
    path: str
    """Relative to the volume."""
    size: int = Field(default=0, sa_type=sa.BigInteger)
    sha256: str = ""
    s3_path: str | None = None
    metadata_: dict[str, Any] = Field(
        default_factory=dict, sa_type=sa.JSON, sa_column_kwargs={"name": "metadata"}
    )
    created_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME)


class MetricRow(Row, table=True):
    """One logged number. Written in bulk, so its key is a plain integer."""

    __tablename__ = "metrics"

    id: int | None = Field(
        default=None,
        primary_key=True,
        # SQLite numbers rows by itself only under a column of type INTEGER.
        sa_type=sa.BigInteger().with_variant(sa.Integer(), "sqlite"),  # pyright: ignore[reportArgumentType, reportCallIssue]
    )
    session_id: str = Field(foreign_key="sessions.id", index=True)
    stage: str | None = None
    step: int = Field(sa_type=sa.BigInteger)
    name: str
    value: float | None = None
    """None where a number was logged that is not finite."""
    run_tag: str | None = None
    created_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME)


class DatasetMetaRow(Row, table=True):
    """What Prep made of the data, one row for each session."""

    __tablename__ = "processed_dataset_meta"

    id: str = Field(default_factory=new_id, primary_key=True)
    session_id: str = Field(foreign_key="sessions.id", unique=True)
    experiment_id: str = Field(foreign_key="experiments.id", index=True)
    columns: list[Any] = Field(default_factory=list, sa_type=sa.JSON)
    feature_columns: list[Any] = Field(default_factory=list, sa_type=sa.JSON)
    target_column: str | None = None
    total_rows: int = Field(default=0, sa_type=sa.BigInteger)
    train_rows: int = Field(default=0, sa_type=sa.BigInteger)
    val_rows: int = Field(default=0, sa_type=sa.BigInteger)
    test_rows: int = Field(default=0, sa_type=sa.BigInteger)
    quality_stats: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    s3_synced: bool = False
    created_at: datetime = Field(default_factory=utc_now, sa_type=UTC_TIME)

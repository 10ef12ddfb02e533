"""The first tables: experiments, sessions, runs, and what happened in them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _experiments_and_sessions()
    _runs_and_leases()
    _events_and_messages()
    _metrics()
    _artifacts_and_dataset_meta()


def _experiments_and_sessions() -> None:
    op.create_table(
        "experiments",
        _id(),
        _text("name"),
        _text("description"),
        _text("dataset_ref"),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger()),
        sa.Column("columns", sa.Integer()),
        sa.Column("source", sa.JSON(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
    )
    op.create_index("ix_experiments_created_at", "experiments", ["created_at"])
    op.create_table(
        "sessions",
        _id(),
        _text("experiment_id"),
        _text("name"),
        _text("state"),
        _text("target", nullable=True),
        _text("task", nullable=True),
        _text("group_column", nullable=True),
        _text("time_column", nullable=True),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        _parent("sessions", "experiment"),
    )
    op.create_index("ix_sessions_created_at", "sessions", ["created_at"])
    op.create_index("ix_sessions_experiment_id", "sessions", ["experiment_id"])


def _runs_and_leases() -> None:
    op.create_table(
        "runs",
        _id(),
        _text("session_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("stage"),
        _text("agent"),
        _text("model", nullable=True),
        _text("state"),
        _text("reason", nullable=True),
        sa.Column("stale", sa.Boolean(), nullable=False),
        _text("cancel_reason", nullable=True),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger()),
        _time("started_at"),
        _time("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        _parent("runs", "session"),
        sa.UniqueConstraint("session_id", "number", name="uq_runs_session_id_number"),
    )
    op.create_table(
        "leases",
        _text("session_id"),
        _text("run_id", nullable=True),
        _text("owner", nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_leases"),
        _parent("leases", "session"),
    )


def _events_and_messages() -> None:
    op.create_table(
        "events",
        _text("session_id"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        _text("type"),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq", name="pk_events"),
        _parent("events", "session"),
    )
    op.create_table(
        "messages",
        _id(),
        _text("session_id"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        _text("role"),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        _parent("messages", "session"),
        sa.UniqueConstraint("session_id", "seq", name="uq_messages_session_id_seq"),
    )


def _metrics() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "metrics",
        sa.Column("id", number, nullable=False),
        _text("session_id"),
        _text("stage", nullable=True),
        sa.Column("step", sa.BigInteger(), nullable=False),
        _text("name"),
        sa.Column("value", sa.Float()),
        _text("run_tag", nullable=True),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_metrics"),
        _parent("metrics", "session"),
    )
    op.create_index("ix_metrics_session_id", "metrics", ["session_id"])


def _artifacts_and_dataset_meta() -> None:
    op.create_table(
        "artifacts",
        _id(),
        _text("session_id"),
        _text("stage"),
        _text("type"),
        _text("name"),
        _text("path"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        _text("sha256"),
        _text("s3_path", nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        _parent("artifacts", "session"),
        sa.UniqueConstraint("session_id", "path", name="uq_artifacts_session_id_path"),
    )
    op.create_table(
        "processed_dataset_meta",
        _id(),
        _text("session_id"),
        _text("experiment_id"),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("feature_columns", sa.JSON(), nullable=False),
        _text("target_column", nullable=True),
        *(
            sa.Column(f"{part}_rows", sa.BigInteger(), nullable=False)
            for part in ("total", "train", "val", "test")
        ),
        sa.Column("quality_stats", sa.JSON(), nullable=False),
        sa.Column("s3_synced", sa.Boolean(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_processed_dataset_meta"),
        _parent("processed_dataset_meta", "session"),
        _parent("processed_dataset_meta", "experiment"),
        sa.UniqueConstraint("session_id", name="uq_processed_dataset_meta_session_id"),
    )
    op.create_index(
        "ix_processed_dataset_meta_experiment_id", "processed_dataset_meta", ["experiment_id"]
    )


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(), nullable=False)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _parent(table: str, parent: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [f"{parent}_id"], [f"{parent}s.id"], name=f"fk_{table}_{parent}_id"
    )

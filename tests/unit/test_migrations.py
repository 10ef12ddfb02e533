"""Opening databases that older, newer and simultaneous processes made."""

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from trainable.errors import StorageError
from trainable.storage.database import Database
from trainable.storage.migrate import current_revision, revisions, upgrade
from trainable.storage.tables import METADATA, ExperimentRow

ROOT = Path(__file__).parents[2]


def test_migrations_lead_to_the_tables_in_the_code(tmp_path: Path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        upgrade(connection, "head")
        assert current_revision(connection) == revisions()[-1]
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_opening_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        Database.open(f"sqlite:///{tmp_path / 'a.db'}").close()
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


@pytest.mark.parametrize("revision", revisions())
def test_rows_of_every_released_version_are_kept(tmp_path: Path, revision: str):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        upgrade(connection, revision)
        connection.execute(
            sa.text(
                "INSERT INTO experiments"
                " (id, name, description, dataset_ref, instructions, source, created_at)"
                " VALUES ('e', 'old', '', '', '', '{}', '2026-01-02 03:04:05.000006')"
            )
        )
    engine.dispose()
    database = Database.open(url)
    assert database.experiment("e").name == "old"
    assert database.experiment("e").created_at.isoformat() == "2026-01-02T03:04:05.000006+00:00"
    database.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path):
    path = tmp_path / "a.db"
    Database.open(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    before = list(connection.iterdump())
    with pytest.raises(StorageError, match=r"newer version of Trainable\. Upgrade"):
        Database.open(f"sqlite:///{path}")
    assert list(connection.iterdump()) == before
    connection.close()


def test_processes_may_open_a_missing_database_at_the_same_time(tmp_path: Path):
    code = (
        "import sys; from trainable.storage.database import Database\n"
        "print('ready', flush=True); input()\n"
        "Database.open(sys.argv[1]).close()"
    )
    url = f"sqlite:///{tmp_path / 'new' / 'a.db'}"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate(timeout=60)[1] for child in children] == [""] * 4


def test_a_notebook_may_have_tables_of_the_same_names():
    from sqlmodel import SQLModel

    assert SQLModel.metadata is not METADATA
    assert ExperimentRow.metadata is METADATA

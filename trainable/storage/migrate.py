"""Brings a database to the tables this version of Trainable works with."""

from pathlib import Path

import sqlalchemy as sa

from trainable.errors import StorageError

SCRIPTS = Path(__file__).parent / "migrations"


def revisions() -> list[str]:
    """Return the known versions of the tables, oldest first."""
    return sorted(path.name.split("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


def migrate(connection: sa.Connection, name: str) -> None:
    """Bring the tables up to date; at the newest version, that is one small query.

    Raises:
        StorageError: A newer Trainable has written the database called `name`.
    """
    known, current = revisions(), current_revision(connection)
    if current == known[-1]:
        return
    if current is not None and current not in known:
        raise StorageError(
            f"The database {name!r} was written by a newer version of Trainable.",
            remedy="Upgrade with 'pip install --upgrade trainable-lab', or set TRAINABLE_HOME to "
            "another folder.",
            code="storage_newer",
        )
    upgrade(connection, known[-1])


def current_revision(connection: sa.Connection) -> str | None:
    """Return the version of the tables in the database, None when it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Run the migrations up to `revision` in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)

"""What the environment says; the only place that reads it."""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings with their standard variable names; defaults work with no account."""

    model_config = SettingsConfigDict(extra="ignore")

    home: Path = Field(default=Path("~/.trainable"), validation_alias="TRAINABLE_HOME")
    """Folder of the database and the volume."""
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    """PostgreSQL URL; without it, SQLite under `home`."""

    @property
    def root(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def volume_root(self) -> Path:
        """Folder of datasets and stage outputs when the volume is a local directory."""
        return self.root / "volume"

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the database."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.root / 'trainable.db'}"


def machine_environment() -> dict[str, str]:
    """Return the variables that a clean environment still needs on this machine."""
    names = ("PATH", "LANG", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "TZ")
    return {name: os.environ[name] for name in names if name in os.environ}

"""Where things are kept when nothing, or something, is set."""

from pathlib import Path

import pytest

from trainable.settings import Settings


def test_by_default_everything_lies_in_a_hidden_folder_of_the_users_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("TRAINABLE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings()
    assert settings.root == tmp_path / ".trainable"
    assert settings.volume_root == tmp_path / ".trainable/volume"
    assert settings.store_url == f"sqlite:///{tmp_path}/.trainable/trainable.db"


def test_the_folder_and_the_database_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TRAINABLE_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "sqlite:////srv/team/trainable.db")
    settings = Settings()
    assert settings.root == tmp_path
    assert settings.store_url == "sqlite:////srv/team/trainable.db"
    assert "team" not in repr(settings)

"""Reading and writing a volume in which agents may have left anything."""

import hashlib
import os
from pathlib import Path

import pytest

from trainable.errors import NotFoundError, StorageError
from trainable.storage.directory import DirectoryVolume

SESSION = "sessions/1/eda"


@pytest.fixture
def volume(tmp_path: Path) -> DirectoryVolume:
    return DirectoryVolume(tmp_path / "volume")


def test_what_was_written_is_read_and_listed(volume: DirectoryVolume):
    volume.write_bytes(f"{SESSION}/report.md", b"old")
    volume.write_bytes(f"{SESSION}/report.md", b"# Report")
    volume.write_bytes(f"{SESSION}/figures/a b é 👨‍👩‍👧.png", b"")
    volume.write_bytes("sessions/1/prep/report.md", b"")
    assert volume.read_bytes(f"{SESSION}/report.md") == b"# Report"
    with volume.open(f"{SESSION}/report.md") as file:
        assert file.read(3) == b"# R"
    assert volume.path(f"{SESSION}/report.md").read_text() == "# Report"
    assert volume.digest(f"{SESSION}/report.md") == hashlib.sha256(b"# Report").hexdigest()
    assert [(file.path, file.size) for file in volume.list(SESSION)] == [
        (f"{SESSION}/figures/a b é 👨‍👩‍👧.png", 0),
        (f"{SESSION}/report.md", 8),
    ]
    assert len(volume.list()) == 3


def test_a_folder_can_be_made_more_than_once(volume: DirectoryVolume):
    assert volume.make_folder(SESSION) == volume.make_folder(SESSION)
    assert volume.path(SESSION).is_dir()
    assert volume.list(SESSION) == []


def test_what_is_not_there_is_not_found(volume: DirectoryVolume):
    assert volume.list() == []
    with pytest.raises(NotFoundError, match="no 'a' in the volume"):
        volume.read_bytes("a")
    volume.write_bytes("a", b"")
    with pytest.raises(NotFoundError):
        volume.read_bytes("a/b")
    assert volume.list("b") == []


@pytest.mark.parametrize(
    "path",
    [
        *["", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\\b", "a\0", "a\n"],
        *["\u202egnp.a", "\udcff", "a/" * 40 + "a"],
    ],
)
def test_a_path_that_leads_astray_is_refused(volume: DirectoryVolume, path: str):
    for use in (volume.path, volume.read_bytes, volume.open, volume.make_folder):
        with pytest.raises(StorageError, match="not a path inside the volume"):
            use(path)
    with pytest.raises(StorageError):
        volume.write_bytes(path, b"")


def test_links_are_not_followed(volume: DirectoryVolume, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    volume.make_folder(SESSION)
    volume.path(f"{SESSION}/file").symlink_to(tmp_path / "outside/secret")
    volume.path(f"{SESSION}/folder").symlink_to(tmp_path / "outside")
    volume.path(f"{SESSION}/hard").hardlink_to(tmp_path / "outside/secret")
    for name in ("file", "folder/secret", "hard"):
        with pytest.raises((StorageError, NotFoundError)):
            volume.read_bytes(f"{SESSION}/{name}")
    with pytest.raises((StorageError, NotFoundError)):
        volume.write_bytes(f"{SESSION}/folder/secret", b"changed")
    volume.write_bytes(f"{SESSION}/file", b"mine")
    volume.write_bytes(f"{SESSION}/hard", b"mine")
    assert (tmp_path / "outside/secret").read_text() == "secret"
    assert [file.path for file in volume.list()] == [f"{SESSION}/file", f"{SESSION}/hard"]


def test_special_files_are_neither_read_nor_waited_for(volume: DirectoryVolume):
    volume.make_folder(f"{SESSION}/folder")
    os.mkfifo(volume.path(f"{SESSION}/pipe"))
    for name, kind in (("pipe", "a special file"), ("folder", "a folder")):
        with pytest.raises(StorageError, match=kind):
            volume.open(f"{SESSION}/{name}")
    assert volume.list() == []


def test_unsafe_names_are_left_out_of_the_list(volume: DirectoryVolume):
    folder = os.fsencode(volume.make_folder(SESSION))
    for name in (b"new\nline", b"\xff", "\u202etxt.exe".encode(), b"good"):
        os.close(os.open(folder + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert [file.path for file in volume.list()] == [f"{SESSION}/good"]


def test_a_large_file_is_read_only_as_a_file(volume: DirectoryVolume):
    volume.write_bytes("a", b"12345")
    assert volume.read_bytes("a", 5) == b"12345"
    with pytest.raises(StorageError, match="more than 4 bytes"):
        volume.read_bytes("a", 4)


def test_a_write_that_fails_leaves_nothing_behind(volume: DirectoryVolume):
    volume.make_folder("a")
    with pytest.raises(StorageError, match="not usable"):
        volume.write_bytes("a", b"data")
    assert [path.name for path in volume.root.iterdir()] == ["a"]


def test_folders_that_are_too_deep_or_too_many_are_passed_over(volume: DirectoryVolume):
    place = volume.make_folder("a")
    for _ in range(40):
        place = place / "d"
        place.mkdir()
        (place / "f").touch()
    assert 20 < len(volume.list()) <= 32
    for number in range(50):
        (volume.root / f"b{number}").mkdir()
    assert 20 < len(volume.list()) <= 32

"""Telling whether the holder of a lease is gone."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from trainable.storage.lease import owner_is_dead, this_owner

NAME = "from trainable.storage.lease import this_owner; print(this_owner(), flush=True); input()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def owner_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_process_keeps_its_name():
    assert this_owner() == this_owner()
    assert socket.gethostname() in this_owner()


@pytest.mark.parametrize("expired", [True, False])
def test_a_living_process_is_never_dead(child: subprocess.Popen[str], expired: bool):
    owner = owner_of(child)
    assert owner != this_owner()
    assert not owner_is_dead(owner, expired=expired)
    assert not owner_is_dead(this_owner(), expired=expired)


def test_a_killed_process_is_dead_before_it_is_waited_for(child: subprocess.Popen[str]):
    owner = owner_of(child)
    child.kill()
    while not owner_is_dead(owner, expired=False):
        pass
    child.wait()
    assert owner_is_dead(owner, expired=False)


def test_a_stopped_process_is_dead_once_its_lease_has_run_out(child: subprocess.Popen[str]):
    owner = owner_of(child)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert not owner_is_dead(owner, expired=False)
    assert owner_is_dead(owner, expired=True)
    child.send_signal(signal.SIGCONT)


def test_another_process_with_the_same_number_is_another_owner():
    host, boot, pid, started = this_owner().split(":")
    assert owner_is_dead(f"{host}:{boot}:{pid}:{int(started) + 1}", expired=False)


def test_a_restart_of_the_machine_ends_its_processes():
    host, _, pid, started = this_owner().split(":")
    assert owner_is_dead(f"{host}:another-boot:{pid}:{started}", expired=False)


@pytest.mark.parametrize("owner", ["elsewhere/1:boot:1:1", "not a name", ""])
def test_what_cannot_be_looked_at_is_dead_when_its_lease_has_run_out(owner: str):
    assert owner_is_dead(owner, expired=True)
    assert not owner_is_dead(owner, expired=False)

"""Every sandbox passes the same suite, at every level of isolation that works here."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from trainable.sandbox.base import Sandbox
from trainable.sandbox.isolation import LEVELS, probe
from trainable.sandbox.local import LocalSandbox
from trainable.testing.sandbox import CONTRACTS

WORKING = [level for level in LEVELS if probe(level).reason is None]


@pytest.fixture(params=[*WORKING, "none"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    return LocalSandbox(isolation=request.param, cache=tmp_path / "cache")


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
async def test_contract(
    contract: Callable[[Sandbox, Path], Awaitable[None]], sandbox: Sandbox, tmp_path: Path
):
    folder = tmp_path / "work"
    folder.mkdir()
    await contract(sandbox, folder)

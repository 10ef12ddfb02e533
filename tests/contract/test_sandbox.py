"""Every sandbox passes the same suite."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from trainable.errors import IsolationUnavailable
from trainable.sandbox.base import BoxSpec, Sandbox
from trainable.sandbox.local import LocalSandbox
from trainable.testing.sandbox import CONTRACTS


@pytest.fixture(params=["local"])
def sandbox(tmp_path: Path) -> Sandbox:
    return LocalSandbox(cache=tmp_path / "cache")


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
async def test_contract(
    contract: Callable[[Sandbox, Path], Awaitable[None]], sandbox: Sandbox, tmp_path: Path
):
    folder = tmp_path / "work"
    folder.mkdir()
    await contract(sandbox, folder)


async def test_code_of_a_model_is_refused_without_isolation(tmp_path: Path):
    with pytest.raises(IsolationUnavailable, match='isolation="none"'):
        async with LocalSandbox().open(BoxSpec(workdir=tmp_path)):
            pass

"""The notebooks' kernels get a home of their own and none of the user's accounts."""

import os
import tempfile

import pytest

from tests.support.environment import private_names


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the environment that kernels inherit; fixtures don't reach notebook cells."""
    for name in private_names():
        del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="trainable-notebooks-")
    config.add_cleanup(home.cleanup)
    os.environ["TRAINABLE_HOME"] = home.name

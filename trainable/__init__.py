"""Agents that explore, prepare and train on your data, live in your notebook.

Importing this package loads nothing heavy: each name is fetched when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainable import errors, events
    from trainable.artifacts import Artifact
    from trainable.catalog import compare, experiments, run, sessions
    from trainable.errors import RunCancelled, StageFailed, TrainableError
    from trainable.experiment import Experiment
    from trainable.runs import Run, StageResult
    from trainable.sandbox.limits import Limits
    from trainable.sdk import configure_dashboard, log, read_raw
    from trainable.session import Score, Session
    from trainable.stages import Stage

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "Experiment",
    "Limits",
    "Run",
    "RunCancelled",
    "Score",
    "Session",
    "Stage",
    "StageFailed",
    "StageResult",
    "TrainableError",
    "compare",
    "configure_dashboard",
    "errors",
    "events",
    "experiments",
    "log",
    "read_raw",
    "run",
    "sessions",
]

_MODULES = {
    "Artifact": "artifacts",
    "Experiment": "experiment",
    "Limits": "sandbox.limits",
    "Run": "runs",
    "RunCancelled": "errors",
    "Score": "session",
    "Session": "session",
    "Stage": "stages",
    "StageFailed": "errors",
    "StageResult": "runs",
    "TrainableError": "errors",
    "compare": "catalog",
    "configure_dashboard": "sdk",
    "experiments": "catalog",
    "log": "sdk",
    "read_raw": "sdk",
    "run": "catalog",
    "sessions": "catalog",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'trainable' has no attribute {name!r}")
    from importlib import import_module

    if name not in _MODULES:
        return import_module(f"trainable.{name}")
    return getattr(import_module(f"trainable.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

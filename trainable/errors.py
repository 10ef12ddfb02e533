"""Every exception the library raises on purpose; each message ends with what to do next.

TrainableError
├── InputError              what was asked for cannot be done as asked (exit code 2)
│   ├── DataError               the data cannot be read, or cannot be used
│   ├── TargetError             the named target is not a column
│   ├── UnknownStageError       no such stage
│   ├── NotFoundError           no such session, experiment, file or report
│   └── QueryError              the SQL query was refused or failed
├── StageError              the stage machine refused (exit code 2)
│   ├── StageOrderError         an earlier stage has not passed yet
│   └── SessionBusyError        this session is already running a stage
├── RunError                a run ended, but not well
│   ├── StageFailed             (exit code 1)
│   └── RunCancelled            (exit code 130)
├── UnavailableError        a backend or credential is missing (exit code 3)
│   └── IsolationUnavailable    no isolation level works here
├── SandboxError            the sandbox itself failed; code that raises is a result
└── StorageError            the database or the volume cannot be used
    └── LeaseLostError          another process took the session over
"""

import difflib
from collections.abc import Iterable


class TrainableError(Exception):
    """Base class: catch this to catch everything the library raises on purpose."""

    exit_code = 1
    """What the command line exits with."""

    def __init__(self, text: str, *, remedy: str = "", code: str = "") -> None:
        super().__init__(f"{text} {remedy}".strip())
        self.text = text
        """What happened, in one sentence."""
        self.remedy = remedy
        """What to do about it."""
        self.code = code or _snake(type(self).__name__)
        """A stable lower_snake name of the reason."""


class InputError(TrainableError):
    """What was asked for cannot be done as it was asked."""

    exit_code = 2


class DataError(InputError):
    """The data cannot be read, or holds nothing to work on."""


class TargetError(InputError):
    """The named target is not a column of the data."""


class UnknownStageError(InputError):
    """There is no stage of that name."""


class NotFoundError(InputError):
    """There is no session, experiment, file or report of that name."""


class QueryError(InputError):
    """The SQL query was refused or failed."""


class StageError(TrainableError):
    """The stage machine refused to start a stage."""

    exit_code = 2


class StageOrderError(StageError):
    """A stage was started before the one it needs had passed."""


class SessionBusyError(StageError):
    """A stage was started while the session was running one."""


class RunError(TrainableError):
    """A run ended, but not well."""


class StageFailed(RunError):
    """A stage ended without a valid result; `code` says why."""


class RunCancelled(RunError):
    """A run was stopped before its end."""

    exit_code = 130


class UnavailableError(TrainableError):
    """A backend or a credential that was asked for is not there."""

    exit_code = 3


class IsolationUnavailable(UnavailableError):
    """No isolation level that model-written code needs works on this machine."""


class SandboxError(TrainableError):
    """The sandbox itself failed; code that merely raises is an ordinary result."""


class StorageError(TrainableError):
    """The database or the volume cannot be used."""


class LeaseLostError(StorageError):
    """Another process took this session over."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `Did you mean 'x'? ` for the choice closest to `name`, or an empty string."""
    by_folded = {str(choice).casefold(): str(choice) for choice in choices}
    found = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f"Did you mean {by_folded[found[0]]!r}? " if found else ""


def _snake(name: str) -> str:
    letters = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return letters.lstrip("_").removesuffix("_error")

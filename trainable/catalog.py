"""What a home holds: its sessions and experiments, side by side; and a whole pass in one call."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trainable.experiment import Experiment
from trainable.home import Home, default_home
from trainable.session import Session
from trainable.stages import Stage, parse_stage

if TYPE_CHECKING:
    import pandas as pd

    from trainable.dataset import Data


def run(
    data: "Data | Experiment", *, stages: Iterable[Stage | str] = tuple(Stage), **options: Any
) -> Session:
    """Run the stages one after the other and return the session once they are done.

    Args:
        data: As for `Session`.
        stages: The stages, in order.
        options: As for `Session`: `target`, `agent`, `instructions` ...

    Raises:
        StageFailed: A stage did not end well; `Session.load("latest")` has what exists.
        RunCancelled: It was stopped.
        InputError: An argument or the data makes no sense.
    """
    wanted = [parse_stage(stage) for stage in stages]
    session = Session(data, **options)
    for stage in wanted:
        session.run(stage).wait()
    return session


def sessions(*, home: Home | None = None) -> list[Session]:
    """Return all sessions, newest first."""
    home = home or default_home()
    home.database.reap()
    return [Session.of(row, home) for row in home.database.sessions()]


def experiments(*, home: Home | None = None) -> list[Experiment]:
    """Return all experiments, newest first."""
    home = home or default_home()
    return [Experiment.of(row) for row in home.database.experiments()]


def compare(which: Iterable[Session | str], *, home: Home | None = None) -> "pd.DataFrame":
    """Return one row for each session: what it was about, its state and its test score.

    Args:
        which: Sessions, or their ids or unique beginnings of them.
        home: Where ids are looked up.

    Raises:
        NotFoundError: There is no such session.
    """
    import pandas as pd

    rows = [
        _about(found if isinstance(found, Session) else Session.load(found, home=home))
        for found in which
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


_COLUMNS = (
    *("session", "experiment", "target", "state", "model", "metric", "test_score"),
    *("ci_low", "ci_high", "baseline", "test_rows", "seconds", "cost_usd"),
)


def _about(session: Session) -> dict[str, Any]:
    usage, score = session.usage, session.score
    about: dict[str, Any] = {
        "session": session.id,
        "experiment": session.experiment.name,
        "target": session.target,
        "state": session.state,
        "seconds": usage.seconds,
        "cost_usd": usage.cost_usd,
    }
    if score is not None:
        about |= {
            "model": score.model,
            "metric": score.metric,
            "test_score": score.value,
            "ci_low": score.ci95[0],
            "ci_high": score.ci95[1],
            "baseline": score.baseline,
            "test_rows": score.rows,
        }
    return about

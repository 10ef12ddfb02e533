"""Several tables made one when they have the same columns, and refused when not."""

import re
from collections.abc import Sequence

import pandas as pd

from trainable.dataset.read import Part
from trainable.dataset.source import name_some
from trainable.dataset.table import tidy, unique_names
from trainable.errors import DataError


def combine(parts: Sequence[Part], notes: list[str]) -> pd.DataFrame:
    """Return the rows of all parts, in order, with a `source_file` column when several.

    Raises:
        DataError: They have different columns.
    """
    first = parts[0].frame
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if set(part.frame.columns) != set(first.columns):
            raise _different(parts[0], part, parts)
    names = [part.info.name for part in parts]
    label = unique_names([*first.columns, "source_file"])[-1]
    frame = pd.concat([part.frame[list(first.columns)] for part in parts], ignore_index=True)
    origin = [part.info.name for part in parts for _ in range(len(part.frame))]
    frame.insert(frame.shape[1], label, pd.Series(origin))
    frame, changes = tidy(frame)
    notes.append(
        f"The rows of {name_some(names)} were put together; {label!r} says whose they are."
    )
    if _train_and_test(names):
        notes.append("The names say train and test; the rows are pooled and split anew.")
    notes.extend(changes)
    return frame


def _different(one: Part, other: Part, parts: Sequence[Part]) -> DataError:
    a, b = list(one.frame.columns), list(other.frame.columns)
    only_a = [name for name in a if name not in set(b)]
    only_b = [name for name in b if name not in set(a)]
    missing = [
        f"{part.info.name!r} lacks {name_some(lacking)}"
        for part, lacking in ((other, only_a), (one, only_b))
        if lacking
    ]
    what = f"{name_some([p.info.name for p in parts])} have different columns: " + "; ".join(
        missing
    )
    return DataError(f"{what}.", remedy=_proposal(one, other), code="different_schemas")


def _proposal(one: Part, other: Part) -> str:
    names = [one.info.name, other.info.name]
    if _train_and_test(names):
        train = next(name for name in names if _says(name, "train"))
        return f"They look like a train/test pair: pass {train!r} alone."
    if keys := _shared_keys(one.frame, other.frame):
        return f"Pass one file, or join them on {name_some(keys)} and pass the DataFrame."
    return "Pass one file."


def _shared_keys(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Return the columns that tell the rows of one table apart and occur in the other."""
    return [
        name
        for name in one.columns.intersection(other.columns)
        if (one[name].is_unique or other[name].is_unique)
        and one[name].isin(other[name].tolist()).any()
    ]


def _train_and_test(names: Sequence[str]) -> bool:
    return all(any(_says(name, word) for name in names) for word in ("train", "test"))


def _says(name: str, word: str) -> bool:
    return re.search(rf"(^|[^a-z]){word}(ing)?([^a-z]|$)", name.lower()) is not None

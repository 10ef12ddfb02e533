"""What is written down about the files that a dataset came from."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class FileInfo:
    """How one file was read."""

    name: str
    bytes: int | None = None
    sha256: str | None = None
    format: str = ""
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    sheet: str | None = None
    rows: int = 0
    notes: list[str] = field(default_factory=list[str])

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def name_some(names: list[str], most: int = 4) -> str:
    """Return the names as a list in words, the first few of a long one."""
    shown = [repr(name if len(name) <= 60 else f"{name[:59]}…") for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def count(number: int, noun: str) -> str:
    """Return the number with its noun, in the plural where it has to be."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

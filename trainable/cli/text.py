"""Turns names, numbers and agent-written text into what fits a line of a terminal."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*[0-~])"
)
HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
CLAUSE = re.compile(r"[:;] |, (?=(?:and|but|by|or|what|which|with) )")
METRICS = {"roc_auc": "ROC AUC", "log_loss": "log loss", "rmse": "RMSE", "mae": "MAE", "r2": "R2"}
ARGUMENT = re.compile(r"\b(agent|sandbox|isolation|task|timeout)=[\"']?(\w+)[\"']?")
SPLITS = ("train", "val", "test", "cv")
BARS = "▁▂▃▄▅▆▇█"
SHORTEST_ID = 4


def clean(text: str) -> str:
    """Return `text` without anything that moves the cursor, colors or hides; newlines stay."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return HIDDEN.sub("", ESCAPE.sub("", text)).expandtabs(4)


def clean_line(text: str) -> str:
    """Return `text` as one clean line."""
    return " ".join(clean(text).split())


def width_of(text: str) -> int:
    """Return how many terminal cells `text` takes."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def shorten(text: str, width: int) -> str:
    """Return `text`, cut to `width` cells: before a clause, or else with an ellipsis."""
    if width_of(text) <= width:
        return text
    clauses = [m.start() for m in CLAUSE.finditer(text) if width // 2 <= m.start() <= width]
    if clauses and width_of(text[: clauses[-1]]) <= width:
        return text[: clauses[-1]]
    while text and width_of(text) > width - 1:
        text = text[:-1]
    words = text.rpartition(" ")[0]
    return f"{(words if len(words) > width * 2 // 3 else text).rstrip(' ,:;')}…"


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Return a duration as `m:ss` or `h:mm:ss`; with `tenths` as `m:ss.d` below a minute."""
    if tenths and seconds < 59.95:
        return f"0:{seconds:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def age(then: datetime, now: datetime) -> str:
    """Return how long ago `then` was, in its largest unit: `21s`, `5m`, `2h`, `3d`."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def count(number: int, thing: str) -> str:
    """Return `1 file`, `2 files`, `1,057 rows`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def size_of(number: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB" if number < 100 else f"{number:,.0f} GB"


def metric_name(name: str) -> str:
    """Return the name of a metric as people write it: `val_roc_auc` is `val ROC AUC`."""
    split, _, rest = name.partition("_")
    if split in SPLITS and rest:
        return f"{split} {metric_name(rest)}"
    return METRICS.get(name, clean_line(name).replace("_", " "))


def as_options(text: str) -> str:
    """Return what the library says about its arguments as this command line takes them."""
    text = ARGUMENT.sub(lambda found: f"--{found[1]} {found[2]}", text)
    return text.replace("max_turns", "--max-turns")


def fitting(parts: str, width: int) -> str:
    """Return as many of the parts, which commas separate, as fit into `width` cells."""
    while width_of(parts) > width and ", " in parts:
        parts = parts.rpartition(", ")[0]
    return shorten(parts, width)


def number(value: float) -> str:
    """Return a score with three decimals, or a large number with as many digits as matter."""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def sparkline(values: Sequence[float], width: int = 8) -> str:
    """Return the course of `values` as a few bars; nothing for less than three of them."""
    if len(values) < 3:
        return ""
    ends = [round((i + 1) * (len(values) - 1) / width) for i in range(width)]
    picked = [values[end] for end in ends] if len(values) > width else list(values)
    low, high = min(picked), max(picked)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in picked)


def short_id(session_id: str, ids: Iterable[str]) -> str:
    """Return the shortest beginning of `session_id` that no other of `ids` has."""
    others = [other for other in ids if other != session_id]
    length = SHORTEST_ID
    while length < len(session_id) and any(o.startswith(session_id[:length]) for o in others):
        length += 1
    return session_id[:length].rstrip("-")


def tilde(path: Path) -> str:
    """Return `path` with `~` for the user's own folder."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)

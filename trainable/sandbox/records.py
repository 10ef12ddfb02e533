"""Reads what code logged, from lines that may hold anything."""

import contextlib
import json
from typing import Any

from trainable.sandbox.base import Record

NEXT_CALL = "\nm"
"""What separates two calls of `log` in the record lines of `trainable.sdk`."""


def read_records(lines: str) -> list[Record]:
    """Return the records in whole lines; what is no record is left out."""
    if lines.startswith("m") and "\nc" not in lines:
        with contextlib.suppress(ValueError, RecursionError):  # the usual case, in one go
            return [Record("metrics", _loads(f"[{lines[1:-1].replace(NEXT_CALL, ',')}]"))]
    found: list[Record] = []
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            if line.startswith("m"):
                found.append(Record("metrics", [_loads(line[1:])]))
            elif line.startswith("c"):
                found.append(Record("charts", _loads(line[1:])))
    return found


def _loads(text: str) -> Any:
    """Return what the JSON says, without halves of surrogate pairs, which no file can hold."""
    found = json.loads(text)
    if "\\ud" not in text and "\\uD" not in text:
        return found
    return json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))

"""Size, hash and text encoding of a file, in one pass over its bytes."""

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20
_HEAD = 1 << 16
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 26, 27})
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDEFINED_IN_1252 = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the bytes of a file are."""

    size: int
    sha256: str
    head: bytes
    """The first 64 KiB."""
    encoding: str | None
    """Name of the codec that reads all of it, byte order mark included; None when not text."""


def examine(path: Path) -> Contents:
    """Read the file once.

    Raises:
        OSError: The file cannot be read.
    """
    digest, size, head = hashlib.sha256(), 0, b""
    utf8, is_utf8, is_1252 = codecs.getincrementaldecoder("utf-8")(), True, True
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            head = head or block[:_HEAD]
            size += len(block)
            digest.update(block)
            is_1252 = is_1252 and not block.translate(None, _all_but(_UNDEFINED_IN_1252))
            try:
                utf8.decode(block) if is_utf8 else None
            except UnicodeDecodeError:
                is_utf8 = False
    try:
        utf8.decode(b"", final=True)
    except UnicodeDecodeError:
        is_utf8 = False
    encoding = _choose(head, is_utf8=is_utf8, is_1252=is_1252)
    return Contents(size=size, sha256=digest.hexdigest(), head=head, encoding=encoding)


def _choose(head: bytes, *, is_utf8: bool, is_1252: bool) -> str | None:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name if is_utf8 or name != "utf-8-sig" else None
    if wide := _wide(head):
        return wide
    if head and 1 - len(head.translate(None, _CONTROL)) / len(head) > 0.01:
        return None
    if is_utf8:
        return "utf-8"
    return "cp1252" if is_1252 else "latin-1"


def _wide(head: bytes) -> str | None:
    """Return UTF-16 in the byte order that leaves zeros where Western text has them."""
    half = max(len(head) // 2, 1)
    if head[1::2].count(0) > half * 0.4 and head[0::2].count(0) < half * 0.1:
        return "utf-16-le"
    if head[0::2].count(0) > half * 0.4 and head[1::2].count(0) < half * 0.1:
        return "utf-16-be"
    return None


def _all_but(kept: bytes) -> bytes:
    return bytes(set(range(256)) - set(kept))

"""The conversation of a session, as its user reads it."""

from dataclasses import dataclass
from datetime import datetime

from trainable.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Message:
    """One line of the conversation."""

    role: str
    """`user`, `assistant`, `tool` or `system`."""
    text: str
    stage: Stage | None
    time: datetime

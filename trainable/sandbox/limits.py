"""What one step may use."""

import os
from dataclasses import asdict, dataclass, field

from trainable.errors import InputError


def _most_of_memory() -> int:
    """Return three quarters of this machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


def _processes() -> int:
    """Return room for a few pools of threads on each core."""
    return 512 + 64 * (os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one step may use, summed over all its processes; more than that ends the step alone.

    Sizes are in bytes, times in seconds.
    """

    wall: float | None = None
    """Time; None for what the call allows anyway."""
    cpu: float | None = None
    """Time of processors; None for no limit."""
    memory: int = field(default_factory=_most_of_memory)
    """Memory, files in `/tmp` and `/dev/shm` included; looked at every tenth of a second."""
    processes: int = field(default_factory=_processes)
    """Processes and threads."""
    disk: int = 20 << 30
    """All files of the stage together."""
    file_size: int = 8 << 30
    """A single file."""
    inodes: int = 100_000
    """Files and folders of the stage."""
    output: int = 256 << 20
    """What is printed and logged."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise InputError(f"The limit {name}={value!r} is not above zero.")

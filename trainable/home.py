"""Where sessions live: the database, the volume and the event loop that runs use."""

import functools
from pathlib import Path
from weakref import WeakValueDictionary

from trainable.loop import LoopThread
from trainable.sandbox.local import LocalSandbox
from trainable.settings import Settings
from trainable.storage.database import Database
from trainable.storage.directory import DirectoryVolume
from trainable.storage.lease import Lease
from trainable.storage.log import EventLog


class Home:
    """One database, one volume and one loop thread; usually one for each process."""

    def __init__(self, settings: Settings) -> None:
        """Open the home that `settings` describe, making what is missing.

        Raises:
            StorageError: The folder or the database cannot be used.
        """
        self.settings = settings
        self.database = Database.open(settings.store_url)
        self.volume = DirectoryVolume(settings.volume_root)
        self.loop = LoopThread()
        self.unfinished: dict[str, Lease] = {}
        """Leases, by session, of runs whose end could not be stored (disk full, for example)."""
        self._logs: WeakValueDictionary[str, EventLog] = WeakValueDictionary()

    @property
    def cache(self) -> Path:
        """Folder for caches that may be deleted at any time."""
        return self.settings.root / "cache"

    def sandbox(self) -> LocalSandbox:
        """Return a sandbox for code of the library itself."""
        return LocalSandbox(cache=self.cache)

    def log(self, session_id: str) -> EventLog:
        """Return the log of a session; all readers in this process share one."""
        log = self._logs.get(session_id)
        if log is None:
            log = EventLog(self.database, session_id)
            self._logs[session_id] = log
        return log


def default_home() -> Home:
    """Return the home that the environment names; the same one for the same settings."""
    settings = Settings()
    return _open(settings.root, settings.store_url)


@functools.cache
def _open(_root: Path, _store_url: str) -> Home:
    return Home(Settings())

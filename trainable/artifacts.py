"""Files that a stage produced, as their user sees them."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trainable.errors import InputError
from trainable.home import Home
from trainable.stages import Stage
from trainable.storage.tables import ArtifactRow

if TYPE_CHECKING:
    import pandas as pd

READ_BYTES = 1 << 30
LOAD_ROWS = 5_000_000
LOAD_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a stage produced."""

    path: str
    """Relative to the volume."""
    name: str
    stage: Stage
    type: str
    """`report`, `chart`, `dataset`, `model`, `script`, `metadata` or `file`."""
    size: int
    """Bytes."""
    sha256: str
    s3_path: str | None = None
    home: Home = field(repr=False, compare=False)

    @classmethod
    def of(cls, row: ArtifactRow, home: Home) -> "Artifact":
        """Return the artifact that `row` describes."""
        return cls(
            path=row.path,
            name=row.name,
            stage=Stage(row.stage),
            type=row.type,
            size=row.size,
            sha256=row.sha256,
            s3_path=row.s3_path,
            home=home,
        )

    @property
    def local_path(self) -> Path:
        """Where the file lies on this machine."""
        return self.home.volume.path(self.path)

    def read_bytes(self) -> bytes:
        """Return the file's content.

        Raises:
            NotFoundError: The file is gone.
            StorageError: It is no regular file, or larger than 1 GiB.
        """
        return self.home.volume.read_bytes(self.path, READ_BYTES)

    def load(self) -> "pd.DataFrame | dict[str, Any] | list[Any] | str":
        """Return the content: a DataFrame (parquet, CSV), an object (JSON) or text.

        Tables are parsed in the sandbox, since an agent wrote them.

        Raises:
            InputError: It is none of these; pickles in particular are never loaded here.
        """
        match PurePosixPath(self.path).suffix.lower():
            case ".json":
                return json.loads(self.read_bytes())
            case ".md" | ".py" | ".txt" | ".svg" | ".html":
                return self.read_bytes().decode("utf-8", "replace")
            case ".parquet" | ".csv":
                return self._load_table()
            case suffix:
                raise InputError(
                    f"{self.name} cannot be loaded: {suffix or 'its kind'} is no table or text.",
                    remedy="Use read_bytes(); Trainable never unpickles what an agent wrote.",
                )

    def _load_table(self) -> "pd.DataFrame":
        from trainable.explorer import Explorer

        with tempfile.TemporaryDirectory(prefix="trainable-") as folder:
            explorer = Explorer(self.home.sandbox(), {"file": self.local_path}, Path(folder))
            query = explorer.query("FROM file", limit=LOAD_ROWS, timeout=LOAD_SECONDS)
            return self.home.loop.run(query)

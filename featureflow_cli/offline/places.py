"""Where a table's folder lies: on a disk (here), or in a bucket (`buckets`). Nobody else knows file systems.

Paths beneath a place are relative, with `/`. Both kinds raise OSError, which `delta.reported` explains.
"""

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featureflow_cli.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

LOG = "_delta_log"


class Watch(Protocol):
    """Whether a table that is in use is still the one that it was."""

    def mark(self, version: int) -> None:
        """This version is what is in use now."""

    def holds(self) -> bool:
        """False where the folder is another one now, or no longer has that version. OSError: it is gone."""


class Place(Protocol):
    """A folder. `str()` of it names it in messages; `url` and `options` are what deltalake opens it by."""

    @property
    def url(self) -> str: ...

    @property
    def options(self) -> Mapping[str, str] | None: ...

    def child(self, name: str) -> "Place": ...

    def holds_table(self) -> bool:
        """Whether a table was ever made here; cheap."""

    def prepare(self) -> None:
        """Make the folder, where folders are made."""

    def put(self, path: str, content: "pa.Buffer") -> int:
        """Write a file that stays, whatever is switched off next; answers when, in milliseconds."""

    def get(self, path: str) -> bytes: ...

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder."""

    def remove(self, path: str) -> None:
        """Delete a file, if it is there."""

    def seal(self, path: str) -> None:
        """Wait until a file that somebody else wrote, and its name, outlast the machine's power."""

    def full(self, path: str) -> str:
        """How other programs name that file."""

    def local(self, files: Sequence[tuple[str, int]]) -> list[str]:
        """Paths on this machine of files (path, bytes) that never change; brings those that lie elsewhere."""

    def dataset(self, paths: Sequence[str], schema: "pa.Schema") -> Any:
        """The Parquet files as one pyarrow dataset; columns that a file has not are null."""

    def watch(self) -> Watch: ...


@dataclass(frozen=True)
class Folder:
    """A folder on a disk, by its absolute path."""

    path: Path

    def __str__(self) -> str:
        return os.fspath(self.path)

    @property
    def url(self) -> str:
        return os.fspath(self.path)

    @property
    def options(self) -> None:
        return None

    def child(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def holds_table(self) -> bool:
        return self.path.exists()

    def prepare(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def put(self, path: str, content: "pa.Buffer") -> int:
        place = self.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        self.seal(path)
        return place.stat().st_mtime_ns // 1_000_000

    def get(self, path: str) -> bytes:
        return (self.path / path).read_bytes()

    def names(self, folder: str) -> list[str]:
        return [place.name for place in (self.path / folder).iterdir()]

    def remove(self, path: str) -> None:
        (self.path / path).unlink(missing_ok=True)

    def seal(self, path: str) -> None:
        for place in ((self.path / path), (self.path / path).parent):
            if not place.exists():  # a version just made that another writer's cleanup took away
                continue
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def full(self, path: str) -> str:
        return os.fspath(self.path / path)

    def local(self, files: Sequence[tuple[str, int]]) -> list[str]:
        return [self.full(path) for path, _ in files]

    def dataset(self, paths: Sequence[str], schema: "pa.Schema") -> Any:
        import pyarrow.dataset as ds

        return ds.dataset([self.full(path) for path in paths], schema=schema, format="parquet")

    def watch(self) -> Watch:
        return _FolderWatch(self.path / LOG)


class _FolderWatch:
    """Holds the folder open, so that no other one gets its number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = os.open(folder, os.O_RDONLY)
        weakref.finalize(self, os.close, self._held)

    def mark(self, version: int) -> None:
        return

    def holds(self) -> bool:
        return os.path.samestat(self._folder.stat(), os.fstat(self._held))


def place_of(path: "str | Path | Place") -> Place:
    """The place that `path` names: a folder, unless it is one already; a URL needs to be told how it is reached."""
    if not isinstance(path, str | Path):
        return path
    if "://" in os.fspath(path):
        message = f"'{path}' is not a folder"
        raise UsageError(message)
    return Folder(Path(path).absolute())

"""Delta tables in memory, under the production code of log and letters: only the disk is stood in for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline import drafts, letters, log
from featureflow_cli.offline.delta import DataFile, Moved
from tests.simulation.processes import How


@dataclass(frozen=True)
class Version:
    """What one version of a table says."""

    paths: tuple[str, ...]
    transactions: Mapping[str, int]
    properties: Mapping[str, str]
    schema: pa.Schema


@dataclass
class Disk:
    """All tables by name, and files by path. Not `serial`: a commit on an outdated version is taken."""

    tables: dict[str, list[Version]] = field(default_factory=dict)
    contents: dict[str, pa.Table] = field(default_factory=dict)
    bounds: dict[str, dict[str, int]] = field(default_factory=dict)
    scans: dict[tuple[object, ...], list[pa.RecordBatch]] = field(default_factory=dict)
    changes: int = 0
    serial: bool = True

    def rows(self, name: str) -> list[pa.Table]:
        """The files of a table's newest version."""
        versions = self.tables.get(name)
        return [self.contents[path] for path in versions[-1].paths] if versions else []


@dataclass(frozen=True)
class SimPlace:
    """`offline.places.Place` of one table, as one process sees it; it stands still at every call."""

    disk: Disk
    name: str
    pause: Callable[[str], How]

    def __str__(self) -> str:
        return self.name

    def remove(self, path: str) -> None:
        """Nobody sees a file that is not listed."""

    def dataset(self, paths: Sequence[str], schema: pa.Schema) -> Any:
        self.pause(f"read {self.name}")
        return _Dataset(self.disk, tuple(paths))


@dataclass(frozen=True)
class _Dataset:
    """`pyarrow.dataset.Dataset` of files that never change: who asks the same again is answered at once."""

    disk: Disk
    paths: tuple[str, ...]

    def to_batches(self, columns: list[str], filter: Any) -> list[pa.RecordBatch]:
        asked = (self.paths, tuple(columns), str(filter))
        if asked not in self.disk.scans:
            rows = pa.concat_tables([self.disk.contents[path] for path in self.paths])
            self.disk.scans[asked] = rows.filter(filter).select(columns).to_batches()
        return self.disk.scans[asked]


class SimTable:
    """`offline.delta.Table`."""

    def __init__(self, place: SimPlace, version: int) -> None:
        self.place = place
        self.version = version

    @staticmethod
    def open(place: SimPlace, version: int | None = None) -> "SimTable | None":
        _heard(place.pause(f"open {place.name}"))
        if place.name not in place.disk.tables:
            return None
        return SimTable(place, len(place.disk.tables[place.name]) - 1 if version is None else version)

    @staticmethod
    def create(place: SimPlace, schema: pa.Schema, properties: Mapping[str, str]) -> "SimTable":
        how = place.pause(f"create {place.name}")
        if how is How.UNSENT:
            raise _away()
        place.disk.tables.setdefault(place.name, [Version((), {}, dict(properties), schema)])
        _heard(how)
        return SimTable(place, len(place.disk.tables[place.name]) - 1)

    @property
    def _shown(self) -> Version:
        return self.place.disk.tables[self.place.name][self.version]

    @property
    def properties(self) -> Mapping[str, str]:
        return self._shown.properties

    @property
    def schema(self) -> pa.Schema:
        return self._shown.schema

    def look(self) -> None:
        _heard(self.place.pause(f"look at {self.place.name}"))
        self.version = len(self.place.disk.tables[self.place.name]) - 1

    def transactions(self) -> Mapping[str, int]:
        return self._shown.transactions

    def files(self) -> pa.Table:
        count = len(self._shown.paths)
        nothing = pa.array([0] * count, pa.int64())
        paths = pa.array(self._shown.paths, pa.string())
        bounds = [self.place.disk.bounds[path] for path in self._shown.paths]
        names = bounds[0] if bounds else ()
        known = {name: pa.array([each[name] for each in bounds], pa.int64()) for name in names}
        return pa.table({"path": paths, "size_bytes": nothing, "num_records": nothing, **known})

    def paths(self) -> set[str]:
        return set(self._shown.paths)

    def commit(
        self, added: Sequence[DataFile], transactions: Mapping[str, int], removed: Sequence[DataFile] = ()
    ) -> None:
        ends = {name.rpartition("/")[2]: end for name, end in transactions.items()}
        paths = tuple(file.path for file in added)
        self._advance(
            f"commit {ends}",
            lambda now: replace(
                now, paths=now.paths + paths, transactions={**now.transactions, **transactions}
            ),
        )

    def set_properties(self, properties: Mapping[str, str]) -> None:
        self._advance(
            f"set {dict(properties)}", lambda now: replace(now, properties={**now.properties, **properties})
        )

    def _advance(self, what: str, turn: Callable[[Version], Version]) -> None:
        disk, name = self.place.disk, self.place.name
        versions = disk.tables[name]
        how = self.place.pause(f"{what} on {name}")
        if how is How.UNSENT:
            raise _away()
        if disk.serial and self.version != len(versions) - 1:
            message = "somebody was faster"
            raise Moved(message)
        versions.append(turn(versions[-1]))
        disk.changes += 1
        _heard(how)
        self.version = len(versions) - 1


def _heard(how: How) -> None:
    if how in {How.UNSENT, How.UNHEARD, How.LATE}:
        raise _away()


def _away() -> StoreUnavailable:
    return StoreUnavailable("the disk does not answer")


class SimDraft:
    """`offline.drafts.Draft`, of one file for all days."""

    def __init__(self, place: SimPlace, timestamp: str, bounded: Sequence[str] = ()) -> None:
        self.rows = 0
        self._place = place
        self._timestamp = timestamp
        self._parts: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        self._parts.append(rows)
        self.rows += rows.num_rows

    def put(self) -> list[DataFile]:
        disk = self._place.disk
        if self._place.pause(f"write a file of {self._place.name}") is How.UNSENT:
            raise _away()
        path, rows = f"{len(disk.contents)}", pa.concat_tables(self._parts)
        moments = rows.column(self._timestamp).cast("int64").to_numpy()
        disk.contents[path] = rows
        disk.bounds[path] = {
            f"min.{self._timestamp}": int(moments.min()),
            f"max.{self._timestamp}": int(moments.max()),
        }
        return [DataFile(path, 0, "", "", 0)]


@contextmanager
def in_memory() -> Iterator[None]:
    """While this lasts, logs and letters at a SimPlace lie in memory."""
    with (
        patch.object(log, "Table", SimTable),
        patch.object(letters, "Table", SimTable),
        patch.object(drafts, "Draft", SimDraft),
    ):
        yield

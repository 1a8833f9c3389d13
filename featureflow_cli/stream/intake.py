"""New events from the files of a source: listed in the registry before they are read from (design.md 4, Files)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from featureflow_cli.compute.views import Source
from featureflow_cli.plan.manifest import ListedFile, check_reached
from featureflow_cli.plan.registry import Registry
from featureflow_cli.sources import files
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.stream.outside import NEWS_S
from featureflow_cli.times import Clock

BATCH_BYTES = 64 * 2**20
"""Events of many megabytes each are taken in a few at a time."""


class FileIntake:
    """The files of one source, as one partition; new ones are appended to its manifest as they are seen.

    `list_new` is that: it answers the whole manifest, and is told up to where the stores hold events.
    """

    waits = False

    def __init__(self, root: Path, list_new: Callable[[int], Sequence[ListedFile]]) -> None:
        self._root = root
        self._list_new = list_new
        self._batches: Iterator[RawBatch] = iter(())
        self._position = -1  # where `_batches` goes on

    def partitions(self) -> Sequence[int]:
        return [files.PARTITION]

    def first(self, partition: int) -> int:
        return 0

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float = NEWS_S
    ) -> Mapping[int, list[RawBatch]]:
        if files.PARTITION not in positions:
            return {}
        found = self._read(source, positions[files.PARTITION], rows)
        return {files.PARTITION: found} if found else {}

    def goal(self) -> Mapping[int, int] | None:
        return {}  # a read that found nothing has looked at all files

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        return {}  # nobody has counted their rows

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        """Files go to nobody else."""

    def report(self, ends: Mapping[int, int]) -> None:
        """Files want no report."""

    def close(self) -> None:
        self._batches = iter(())

    def _read(self, source: Source, position: int, rows: int) -> list[RawBatch]:
        found: list[RawBatch] = []
        taken = taken_bytes = 0
        if position != self._position:
            self._batches = self._open(source, position)
        while taken < rows and taken_bytes < BATCH_BYTES:
            batch = next(self._batches, None)
            if batch is None:
                if found:
                    break
                self._batches = self._open(source, position)  # perhaps there are new files
                batch = next(self._batches, None)
                if batch is None:
                    break
            found.append(batch)
            taken += len(batch.offsets)
            taken_bytes += _bytes(batch)
        self._position = found[-1].end if found else position
        return found

    def _open(self, source: Source, position: int) -> Iterator[RawBatch]:
        return files.read(self._root, self._list_new(position), source, position)


def _bytes(batch: RawBatch) -> int:
    content = batch.content
    return sum(map(len, content)) if isinstance(content, list) else int(content.nbytes)


def list_new(
    registry: Registry, root: Path, source: Source, clock: Clock, passed: int, reached: int
) -> list[ListedFile]:
    """The manifest of a streamed source after its new files were appended, in order of name.

    `passed` says up to where the log holds the events: files below it may be gone.
    """
    assert source.files is not None
    known = registry.manifest(source.name)
    check_reached(source.name, known, reached, registry.path)
    seen = files.look(root, source.files, known, passed)
    return registry.list_files(source.name, seen, clock()) if seen else known

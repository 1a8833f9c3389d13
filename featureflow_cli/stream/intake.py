"""New events from the files of a source: listed in the registry before they are read from (design.md 4, Files)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.plan.manifest import ListedFile
from featureflow_cli.plan.registry import Registry
from featureflow_cli.sources import files
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.times import Clock

BATCH_BYTES = 64 * 2**20
"""Events of many megabytes each are taken in a few at a time."""


class FileIntake:
    """The files of one source, as one partition; new ones are appended to its manifest as they are seen.

    `passed` says up to where the log holds the events: files below it may be gone.
    """

    waits = False

    def __init__(
        self, registry: Registry, root: Path, source: Source, clock: Clock, passed: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._root = root
        self._source = source
        self._clock = clock
        self._passed = passed
        self._batches: Iterator[RawBatch] = iter(())
        self._position = -1  # where `_batches` goes on

    def partitions(self) -> Sequence[int]:
        return [files.PARTITION]

    def first(self, partition: int) -> int:
        return 0

    def read(self, positions: Mapping[int, int], rows: int) -> Mapping[int, list[RawBatch]]:
        if files.PARTITION not in positions:
            return {}
        found = self._read(positions[files.PARTITION], rows)
        return {files.PARTITION: found} if found else {}

    def drained(self, positions: Mapping[int, int]) -> bool:
        return True

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        return {}  # nobody has counted their rows

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        """Files go to nobody else."""

    def report(self, ends: Mapping[int, int]) -> None:
        """Files want no report."""

    def close(self) -> None:
        self._batches = iter(())

    def _read(self, position: int, rows: int) -> list[RawBatch]:
        found: list[RawBatch] = []
        taken = taken_bytes = 0
        if position != self._position:
            self._batches = self._open(position)
        while taken < rows and taken_bytes < BATCH_BYTES:
            batch = next(self._batches, None)
            if batch is None:
                if found:
                    break
                self._batches = self._open(position)  # perhaps there are new files
                batch = next(self._batches, None)
                if batch is None:
                    break
            found.append(batch)
            taken += len(batch.offsets)
            taken_bytes += _bytes(batch)
        self._position = found[-1].end if found else position
        return found

    def _open(self, position: int) -> Iterator[RawBatch]:
        self._check_manifest(position)
        listed = list_new(self._registry, self._root, self._source, self._clock, self._passed())
        return files.read(self._root, listed, self._source, position)

    def _check_manifest(self, position: int) -> None:
        """FeatureflowError where files were read that the manifest does not list: their offsets are taken.

        Files that a new registry lists would get them, and be passed over as if they had been read.
        """
        listed = self._registry.manifest(self._source.name)
        end = listed[-1].end_offset if listed else 0
        if position > end:
            name, registry = self._source.name, self._registry.path
            what = f"the stores hold events of files of source '{name}' that {registry} does not list"
            hint = (
                "put that registry back from a copy; or move both stores away too, and stream from the files"
            )
            raise FeatureflowError(what, hint=hint)


def _bytes(batch: RawBatch) -> int:
    content = batch.content
    return sum(map(len, content)) if isinstance(content, list) else int(content.nbytes)


def list_new(
    registry: Registry, root: Path, source: Source, clock: Clock, passed: int = 0
) -> list[ListedFile]:
    """The manifest of a source after its new files were appended, in order of name."""
    pattern = source.files if source.streamed else source.batch
    assert pattern is not None
    seen = files.look(root, pattern, registry.manifest(source.name), passed)
    return registry.list_files(source.name, seen, clock()) if seen else registry.manifest(source.name)

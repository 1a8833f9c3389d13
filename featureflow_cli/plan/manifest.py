"""What a source's own partitions hold, listed once and for all before it is read (design.md 4).

Files are one partition: a file's base offset is `ordinal << 40`. A listed file that changes is an error of
whoever reads it: the manifest keeps what was listed. Replayed dead letters are another, one offset a letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featureflow_cli.errors import FeatureflowError

ORDINAL_SHIFT = 40


@dataclass(frozen=True)
class SeenFile:
    """A file as it lies there now. `path` is as the reader names it; it is the file's identity."""

    path: str
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True)
class ListedFile:
    """A file in the manifest. `listed_us` is the time its source recorded: by it the future is judged."""

    ordinal: int
    path: str
    size: int
    mtime_ns: int
    digest: str
    listed_us: int

    @property
    def base_offset(self) -> int:
        """Offset of the file's first row."""
        return self.ordinal << ORDINAL_SHIFT

    @property
    def end_offset(self) -> int:
        """The end of the partition once the file was wholly read: the next file's base."""
        return (self.ordinal + 1) << ORDINAL_SHIFT


def check_reached(source: str, manifest: Sequence[ListedFile], reached: int, registry: Path) -> None:
    """FeatureflowError where stores got further than the files that the manifest lists: their offsets are taken.

    Files that this registry lists next would get them, and be passed over as if they had been read.
    """
    if reached > (manifest[-1].end_offset if manifest else 0):
        what = f"the stores hold events of files of source '{source}' that {registry} does not list"
        hint = "put that registry back from a copy; or move both stores away too, and stream from the files"
        raise FeatureflowError(what, hint=hint)


@dataclass(frozen=True)
class Replay:
    """A dead letter, given by its position, that is to be read again as the event `ordinal` of partition REPLAY.

    `listed_us` is the time that its source recorded for it now: by it the future is judged.
    """

    ordinal: int
    partition: int
    offset: int
    listed_us: int

"""The files of a source: one partition, whose files are listed once and never change (design.md 4, Files).

A file's rows have the offsets from its base on; wholly read, it moves the end to the next file's base. So
nobody has to count rows beforehand, and an offset means the same row for good.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np
import xxhash

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError, StoreUnavailable, UsageError
from featureflow_cli.plan.manifest import ListedFile, SeenFile
from featureflow_cli.sources import letters
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.letters import Letter, Reason
from featureflow_cli.sources.readers import READERS, Piece

PARTITION = -1
"""The partition number of a source's files."""
DIGEST_BLOCK = 1 << 20
HIDDEN = (".", "_")
UNFINISHED = ".tmp"


def look(root: Path, pattern: str, manifest: Sequence[ListedFile], end: int = 0) -> list[SeenFile]:
    """The files of a glob that the manifest does not list yet, in order of name; paths are relative to
    `root`.

    Raises FeatureflowError where a listed file has changed, or is gone before the log's `end` has passed it.
    A file that is being written while one looks is left for the next time; hidden ones (`.`, `_`) and `.tmp`
    are none.
    """
    found = list_paths(root, pattern)
    listed = {file.path: file for file in manifest}
    for file in manifest:
        if file.end_offset > end or (root / file.path).exists():
            check_unchanged(root, file)
    fresh = (_see(root, path) for path in found if path not in listed)
    return [file for file in fresh if file is not None]


def list_paths(root: Path, pattern: str) -> list[str]:
    """Paths of the files that match, in order of name; UsageError where an ending says no known format."""
    if "://" in pattern:
        message = f"'{pattern}': only local files are supported yet"
        raise UsageError(message)
    literal = set(PurePath(pattern).parts)
    paths = sorted(
        PurePath(path).as_posix()
        for path in glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207 - takes absolute patterns too
        if not _is_hidden(path, literal) and (root / path).is_file()
    )
    unknown = next((path for path in paths if PurePath(path).suffix not in READERS), None)
    if unknown is not None:
        message = f"{unknown}: the ending says none of {', '.join(READERS)}"
        raise UsageError(message, hint=f"narrow the path '{pattern}', or rename the file")
    return paths


def check_unchanged(root: Path, file: ListedFile) -> None:
    """FeatureflowError where a listed file is gone or has other content now; a mere touch is no change."""
    try:
        stat = (root / file.path).stat()
        if (stat.st_size, stat.st_mtime_ns) == (file.size, file.mtime_ns):
            return
        same = stat.st_size == file.size and _digest(root, file.path, *_seen_at(stat)) == file.digest
    except FileNotFoundError as error:
        message = f"{file.path} is gone, though it is listed and not all of it has been read"
        raise FeatureflowError(message, hint="put it back as it was") from error
    except OSError as error:
        raise _refused(file.path, error) from error
    if not same:
        message = (
            f"{file.path} has changed since it was listed ({file.size:,} bytes then, {stat.st_size:,} now)"
        )
        hint = "put it back as it was; new events go into a new file (under a .tmp name until it is whole)"
        raise FeatureflowError(message, hint=hint)


def read(
    root: Path, manifest: Iterable[ListedFile], source: Source, start: int = 0, batch_rows: int = 32_768
) -> Iterator[RawBatch]:
    """The listed files' rows from the offset `start` on, in order of offset, in batches of one file each.

    The last batch of a file ends at the next file's base; a file without rows is an empty batch. A broken
    file is one letter, and the next file follows. Raises FeatureflowError where a file has changed,
    StoreUnavailable where the disk does not let it be read.
    """
    for file in sorted(manifest, key=lambda file: file.ordinal):
        if file.end_offset > start:
            check_unchanged(root, file)
            yield from _read_file(root, file, source, max(0, start - file.base_offset), batch_rows)
            check_unchanged(root, file)


def _read_file(
    root: Path, file: ListedFile, source: Source, start: int, batch_rows: int
) -> Iterator[RawBatch]:
    """The last batch is held back until it is known to be the last."""
    held: RawBatch | None = None
    try:
        for piece in READERS[PurePath(file.path).suffix](root / file.path, source, start):
            for batch in _batches(file, piece, batch_rows):
                if held is not None:
                    yield held
                held = batch
    except OSError as error:
        raise _refused(file.path, error) from error
    if held is None:
        held = RawBatch([], np.empty(0, np.int64), file.end_offset, file.listed_us)
    yield replace(held, end=file.end_offset)


def _batches(file: ListedFile, piece: Piece, batch_rows: int) -> Iterator[RawBatch]:
    """The piece in batches; each has the letters among the offsets that it covers."""
    base, count = file.base_offset, len(piece.numbers)
    found = [replace(letter, offset=base + letter.offset) for letter in piece.letters]
    if piece.broken:
        found.append(_letter_of_the_rest(file, piece))
    covered = base
    for first in range(0, max(1, count), batch_rows):
        last = min(count, first + batch_rows)
        end = base + (int(piece.numbers[last]) if last < count else piece.end + bool(piece.broken))
        yield RawBatch(
            content=piece.content[first:last],
            offsets=base + piece.numbers[first:last],
            end=end,
            recorded_at_us=file.listed_us,
            letters=letters.to_table([letter for letter in found if covered <= letter.offset < end]),
        )
        covered = end


def _letter_of_the_rest(file: ListedFile, piece: Piece) -> Letter:
    if piece.end:
        detail = f"{file.path} cannot be read past its first {piece.end:,} rows ({piece.broken})"
        advice = "those are in; add the others as a new file"
    else:
        detail, advice = f"{file.path} cannot be read ({piece.broken})", "mend it and add it under a new name"
    return Letter(file.base_offset + piece.end, Reason.UNDECODABLE, f"{detail}: {advice}", b"")


def _see(root: Path, path: str) -> SeenFile | None:
    """The file as it lies there; None while somebody writes to it."""
    try:
        before = _seen_at((root / path).stat())
        digest = _digest(root, path, *before)
        after = _seen_at((root / path).stat())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error) from error
    return SeenFile(path, *after, digest) if before == after else None


def _seen_at(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4096)
def _digest(root: Path, path: str, size: int, mtime_ns: int) -> str:
    """Hash of the file's content; `size` and `mtime_ns` say for how long the answer holds."""
    digest = xxhash.xxh3_128()
    with (root / path).open("rb") as file:
        while block := file.read(DIGEST_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _is_hidden(path: str, literal: set[str]) -> bool:
    """Whether a part of the path that the glob found by itself is hidden, or the file unfinished."""
    parts = PurePath(path).parts
    return path.endswith(UNFINISHED) or any(
        part.startswith(HIDDEN) for part in parts if part not in literal and part not in (".", "..")
    )


def _refused(path: str, error: OSError) -> StoreUnavailable:
    message = f"{path} cannot be read: {error.strerror or error}"
    return StoreUnavailable(message, hint="nothing was passed over; mend it and start again")

"""Copies of a bucket's data files on this machine: files of a log never change, so a copy is never stale.

DuckDB reads them as local Parquet, as often as a query asks; each came over the network once.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

UNUSED_S = 7 * 86_400
"""A copy that nobody asked for so long goes."""
RECENT_S = 600
"""A copy used so lately may be in somebody's hands."""
FREE_BYTES = 1 << 30
"""What is left free on the disk: copies that were not used lately make room."""
DOWNLOADS = 8
PIECE_BYTES = 4 << 20


def bring(folder: Path, files: Sequence[tuple[str, int]], read: Callable[[str], Any]) -> list[str]:
    """Local paths of the files (path, bytes), in order; those that are missing are downloaded, eight at a time.

    `read(path)` opens a stream. Any number of processes may share the folder. OSError where the bucket or the
    disk refuses: what was brought so far stays.
    """
    missing = [(path, size) for path, size in files if not _is_whole(folder / path, size)]
    if missing:
        _make_room(folder, sum(size for _, size in missing), {folder / path for path, _ in files})
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for done in [pool.submit(_download, folder / path, size, read, path) for path, size in missing]:
                done.result()
    for path, _ in files:
        os.utime(folder / path)
    return [os.fspath(folder / path) for path, _ in files]


def _is_whole(place: Path, size: int) -> bool:
    try:
        return place.stat().st_size == size
    except FileNotFoundError:
        return False


def _download(place: Path, size: int, read: Callable[[str], Any], path: str) -> None:
    """Under another name first, so that nobody meets half of it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{uuid.uuid4()}.part")
    try:
        with read(path) as stream, part.open("wb") as file:
            shutil.copyfileobj(stream, file, PIECE_BYTES)
        found = part.stat().st_size
        if found != size:
            message = f"{path} has {found} bytes where the log lists {size}"
            raise OSError(message)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _make_room(folder: Path, needed: int, wanted: set[Path]) -> None:
    """Let go of what nobody used for days and, where the disk is short, of what was used longest ago."""
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    held = sorted(
        (stat.st_mtime, stat.st_size, place) for place, stat in _copies(folder) if place not in wanted
    )
    short = needed + FREE_BYTES - shutil.disk_usage(folder).free
    for used, size, place in held:
        if used > now - UNUSED_S and (short <= 0 or used > now - RECENT_S):
            break
        place.unlink(missing_ok=True)
        short -= size


def _copies(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for place in folder.rglob("*"):
        try:
            stat = place.stat()
        except FileNotFoundError:  # another process made room
            continue
        if place.is_file():
            found.append((place, stat))
    return found

"""All application transactions of a version of a Delta table, in one pass over its log.

deltalake answers for one application id at a time, and reads every commit since the last checkpoint for each.
"""

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

NEAR = 20
"""So many commits behind, what is known is followed commit by commit; beyond, one begins at a checkpoint."""
READERS = 8
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\.\d{10}\.\d{10})?\.parquet")


class Known(NamedTuple):
    """The last version that each application id got, as of a version of the table."""

    version: int
    last: Mapping[str, int]


NOTHING = Known(-1, {})


class LogFiles(NamedTuple):
    """The files of a table's log: `get` reads one by its name (FileNotFoundError), `names` lists them."""

    get: Callable[[str], bytes]
    names: Callable[[], list[str]]


def follow(log: LogFiles, version: int, known: Known = NOTHING) -> Known:
    """What the table knows at `version`. OSError where the log no longer reaches back so far."""
    if known.version <= version <= known.version + NEAR:
        try:
            return _replayed(log, version, known)
        except FileNotFoundError:  # cut meanwhile: there is a checkpoint
            pass
    return _replayed(log, version, _checkpoint(log, version))


def _replayed(log: LogFiles, version: int, known: Known) -> Known:
    names = [f"{number:020}.json" for number in range(known.version + 1, version + 1)]
    found = dict(known.last)
    with ThreadPoolExecutor(READERS) as pool:
        for content in pool.map(log.get, names):
            for line in content.splitlines():
                action: dict[str, Any] = json.loads(line).get("txn", {}) if b'"txn"' in line else {}
                if action:
                    found[action["appId"]] = action["version"]
    return Known(version, found)


def _checkpoint(log: LogFiles, version: int) -> Known:
    """The newest checkpoint up to `version`; NOTHING where there is none."""
    try:
        newest = json.loads(log.get("_last_checkpoint"))
    except FileNotFoundError:
        return NOTHING
    if newest["version"] <= version and "parts" not in newest:
        at = int(newest["version"])
        return Known(at, _in_checkpoint(log.get(f"{at:020}.checkpoint.parquet")))
    listed = [(int(match[1]), name) for name in log.names() if (match := _CHECKPOINT.fullmatch(name))]
    at = max((number for number, _ in listed if number <= version), default=-1)
    found: dict[str, int] = {}
    for number, name in listed:
        if number == at:
            found |= _in_checkpoint(log.get(name))
    return Known(at, found)


def _in_checkpoint(content: bytes) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(pa.BufferReader(content)).read(columns=["txn"]).column("txn").drop_null()
    return {row["appId"]: row["version"] for row in rows.to_pylist()}

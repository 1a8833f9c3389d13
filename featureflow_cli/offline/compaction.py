"""Many small files of a day become few: the same rows by time, in a version that changes no data."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline import files
from featureflow_cli.offline.delta import DataFile, Table, settled

if TYPE_CHECKING:
    import pyarrow as pa

SMALL_BYTES = 32 << 20
TARGET_BYTES = 128 << 20
"""Files below SMALL are joined, as long as the result stays about TARGET."""


def compact(table: Table, schema: "pa.Schema", timestamp: str, minimum: int = 2) -> tuple[int, int]:
    """Join a day's small files where there are at least `minimum`; answers (files before, files after).

    Commits of others go on meanwhile: none of them removes a file but another compaction, to which this one
    yields. Earlier versions stay readable until `vacuum` takes their files.
    """
    before = after = 0
    for day, group in groups(files.day_files(table), minimum):
        joined = _join(table, group, schema, timestamp, day)
        if _commit(table, joined, group):
            before, after = before + len(group), after + 1
    return before, after


def groups(by_day: Mapping[str, Sequence[DataFile]], minimum: int) -> list[tuple[str, list[DataFile]]]:
    """The small files of each day, cut into groups of about TARGET_BYTES; groups under `minimum` files go."""
    found: list[tuple[str, list[DataFile]]] = []
    for day, listed in sorted(by_day.items()):
        group: list[DataFile] = []
        for file in sorted(listed, key=lambda file: file.path):
            if file.bytes >= SMALL_BYTES:
                continue
            if sum(member.bytes for member in group) + file.bytes > TARGET_BYTES:
                found.append((day, group))
                group = []
            group.append(file)
        found.append((day, group))
    return [(day, group) for day, group in found if len(group) >= minimum]


def _join(
    table: Table, group: Sequence[DataFile], schema: "pa.Schema", timestamp: str, day: str
) -> list[DataFile]:
    import pyarrow.dataset as ds

    try:
        paths = [str(table.root / file.path) for file in group]
        rows = ds.dataset(paths, schema=schema, format="parquet").to_table()
    except OSError as error:
        message = f"cannot read the offline store's files of {day}: {error}"
        raise StoreUnavailable(message, at=str(table.root)) from error
    return files.write(table.root, rows, timestamp)


def _commit(table: Table, joined: list[DataFile], group: Sequence[DataFile]) -> bool:
    """False, and nothing left behind, where another compaction has taken one of the files."""

    def turn() -> bool:
        listed = set(table.files().column("path").to_pylist())
        if not listed.issuperset(file.path for file in group):
            files.remove(table.root, joined)
            return False
        table.commit(joined, {}, removed=group)
        return True

    return settled(table, turn)

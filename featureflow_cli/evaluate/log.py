"""The accepted events of a source as a relation in the engine, wherever they lie (design.md 4 and 6).

From the offline log (the files that one version lists; those of a bucket come to this machine first), from
tables that others keep (`batch`), or from both, cut at `until`: before it the history counts, from it on the log.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from featureflow_cli.compute.sql_text import quoted, sql_type, text_literal
from featureflow_cli.compute.views import Source
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.offline.files import FileRef, local
from featureflow_cli.offline.snapshots import Snapshot, Spans
from featureflow_cli.spec.types import INT64, TIMESTAMP, ColumnType, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa


def accepted(
    engine: Engine,
    source: Source,
    snapshot: Snapshot | None,
    in_place: "Iterable[pa.Table] | None" = None,
    *,
    name: str = "",
    since_us: int | None = None,
    before_us: int | None = None,
    below: Mapping[int, int] | None = None,
    above: Mapping[int, int] | None = None,
) -> str:
    """Make a relation of the source's accepted events, and answer its name (default `accepted_SOURCE`).

    Its columns are the source's and `_partition`, `_offset`, `_ingested_at`; timestamps are TIMESTAMPTZ in
    microseconds. `in_place` yields the accepted events of the listed `batch` files (same columns): they pass
    through once, into a temporary table that spills to disk. Kept are only events of
    `since_us <= timestamp < before_us`, of the partitions in `below` at offsets below its ends, and at or past
    those that `above` has (a history beside a stream has no offsets of the log: it is kept whole); files without
    any are not opened. An earlier relation of that name is replaced.
    """
    name = name or f"accepted_{source.name}"
    spans = None if below is None else {of: ((above or {}).get(of, -1), end) for of, end in below.items()}
    engine.run(f"DROP VIEW IF EXISTS {quoted(name)}")
    parts = []
    if source.streamed:
        start = max((moment for moment in (since_us, source.until_us) if moment is not None), default=None)
        listed = () if snapshot is None else snapshot.files
        files = [file for file in listed if file.may_hold(start, before_us) and _within(file, spans)]
        conditions = [*_times(source, start, before_us), *_offsets(spans)]
        parts.append(_selection(source, _scan(source, files), conditions))
    if in_place is not None:
        end = min((moment for moment in (before_us, source.until_us) if moment is not None), default=None)
        conditions = [*_times(source, since_us, end), *_offsets(None if source.streamed else spans)]
        parts.append(f"SELECT * FROM {_load(engine, source, in_place, f'{name}__in_place', conditions)}")
    engine.run(f"CREATE TEMP VIEW {quoted(name)} AS {' UNION ALL '.join(parts)}")
    return quoted(name)


def columns(source: Source) -> dict[str, ColumnType]:
    """Names and types of an accepted event: the source's own, its position and when its source recorded it."""
    return {**source.columns, "_partition": INT64, "_offset": INT64, "_ingested_at": TIMESTAMP}


def _selection(source: Source, relation: str, conditions: Sequence[str]) -> str:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    casts = [f"{quoted(name)}::{sql_type(kind)} AS {quoted(name)}" for name, kind in columns(source).items()]
    return f"SELECT {', '.join(casts)} FROM {relation}{where}"


def _scan(source: Source, files: Sequence[FileRef]) -> str:
    """The files as a relation in which each column of the source exists, null where a file is older than it."""
    nothing = ", ".join(f"NULL::{sql_type(kind)} AS {quoted(name)}" for name, kind in columns(source).items())
    if not files:
        return f"(SELECT {nothing} WHERE false)"
    paths = ", ".join(text_literal(path) for path in local(files))
    alike = all(file.columns is not None and file.columns >= source.columns.keys() for file in files)
    options = f"hive_partitioning = false, union_by_name = {'false' if alike else 'true'}"
    scan = f"read_parquet([{paths}], {options})"
    return scan if alike else f"(SELECT {nothing} WHERE false UNION ALL BY NAME SELECT * FROM {scan})"


def _load(
    engine: Engine, source: Source, tables: "Iterable[pa.Table]", name: str, conditions: Sequence[str]
) -> str:
    """The tables, which come once, as a temporary table of the events that the conditions keep."""
    import pyarrow as pa

    schema = pa.schema([(column, arrow_type(kind)) for column, kind in columns(source).items()])
    reader, own = f"{name}__reader", []

    def batches() -> "Iterator[pa.RecordBatch]":
        try:
            for table in tables:
                yield from table.select(schema.names).cast(schema).to_batches()
        except FeatureflowError as error:
            own.append(error)  # on its way through DuckDB only its text would be left
            raise

    engine.register(reader, pa.RecordBatchReader.from_batches(schema, batches()))
    try:
        selection = _selection(source, quoted(reader), conditions)
        engine.run(f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS {selection}")
    except FeatureflowError as error:
        raise own[0] if own else error from None
    finally:
        engine.unregister(reader)
    return quoted(name)


def _times(source: Source, since_us: int | None, before_us: int | None) -> list[str]:
    """Conditions on the bare column: the scan skips row groups by them."""
    column = quoted(source.timestamp_field)
    bounds = ((">=", since_us), ("<", before_us))
    return [f"{column} {sign} make_timestamptz({moment})" for sign, moment in bounds if moment is not None]


def _offsets(spans: Spans | None) -> list[str]:
    if spans is None:
        return []
    cases = [
        f"(_partition = {partition} AND _offset >= {start} AND _offset < {end})"
        for partition, (start, end) in spans.items()
    ]
    return [f"({' OR '.join(cases) or 'false'})"]


def _within(file: FileRef, spans: Spans | None) -> bool:
    return spans is None or any(
        file.may_hold_offsets(partition, start, end) for partition, (start, end) in spans.items()
    )

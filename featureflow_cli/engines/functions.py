"""The functions that are ours in every engine's SQL: hashes, percentile buckets and canonical rows.

Engines hash, take logarithms and write numbers each in their own way; the law knows one way (design.md 1.13, 1.16).
"""

from typing import TYPE_CHECKING

from featureflow_cli.engines.duckdb import Engine

if TYPE_CHECKING:
    import pyarrow as pa


def register(engine: Engine) -> None:
    """Make `ff_xxh64`, `ff_bucket`, `ff_midpoint` and `ff_row_text` known to the engine; again does nothing."""
    if engine.row("SELECT count(*) FROM duckdb_functions() WHERE function_name = 'ff_row_text'") != (0,):
        return
    engine.function("ff_xxh64", _xxh64, ["VARCHAR"], "UBIGINT")
    engine.function("ff_bucket", _bucket, ["DOUBLE"], "INTEGER")
    engine.function("ff_midpoint", _midpoint, ["INTEGER"], "DOUBLE")
    engine.function("ff_row_text", _row_text, ["VARCHAR"], "VARCHAR")


def _xxh64(texts: "pa.Array") -> "pa.Array":
    """XXH64 (seed 42) of the UTF-8 bytes; null of null."""
    import pyarrow as pa

    from featureflow_cli.compute.hashing import key_hash

    return pa.array(key_hash(texts), pa.uint64(), mask=_nulls(texts))


def _bucket(values: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    from featureflow_cli.compute.percentiles import bucket

    return pa.array(bucket(values.fill_null(0.0).to_numpy(zero_copy_only=False)), mask=_nulls(values))


def _midpoint(buckets: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    from featureflow_cli.compute.percentiles import midpoint

    return pa.array(midpoint(buckets.fill_null(0).to_numpy(zero_copy_only=False)), mask=_nulls(buckets))


def _row_text(rows: "pa.Array") -> "pa.Array":
    """The canonical text of a row from any JSON text of `[columns of latest…, deleted]`."""
    import orjson
    import pyarrow as pa

    from featureflow_cli.compute.rowtext import row_text

    parsed = [None if text is None else orjson.loads(text) for text in rows.to_pylist()]
    return pa.array([None if row is None else row_text(row[:-1], row[-1]) for row in parsed], pa.string())


def _nulls(column: "pa.Array") -> "pa.Array":
    return column.is_null().to_numpy(zero_copy_only=False)

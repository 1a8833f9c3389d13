"""DuckDB, behind one door: the only module that imports it (lazily: it takes 100 ms to load).

Traps of its 2.0 API that are settled here (design.md section 11): a result that is read in pieces keeps its
connection busy until it is closed (a cursor would not see what is registered); a user function gets chunked
arrays; names unknown to DuckDB would be looked up among the caller's Python variables; a DECIMAL becomes
a float in numpy; Arrow from a DB-API result is copied twice, from a relation once.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from featureflow_cli.errors import FeatureflowError, StoreUnavailable

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

Parameter = bool | int | float | str | None
BATCH_ROWS = 122_880
"""Rows of a batch: DuckDB's own row group, so that nothing is cut or glued."""
SHOWN_SQL = 300
"""Characters of a statement in an error: it may list thousands of files."""


class Engine:
    """One connection to an in-memory database in UTC, for one thread.

    `memory_limit` is DuckDB's text (`2GB`); what does not fit spills to `temp_directory` (made on demand; by
    default `.tmp` in the working directory). `threads` None: all cores.
    """

    def __init__(
        self, *, memory_limit: str = "2GB", threads: int | None = None, temp_directory: Path | None = None
    ) -> None:
        import duckdb

        config: dict[str, str] = {
            "memory_limit": memory_limit,
            "TimeZone": "UTC",
            "autoinstall_known_extensions": "false",  # nothing is downloaded at run time
            "python_enable_replacements": "false",  # a typo must not find a Python variable of that name
        }
        if threads is not None:
            config["threads"] = str(threads)
        if temp_directory is not None:
            config["temp_directory"] = os.fspath(temp_directory)
        try:
            self._connection = duckdb.connect(":memory:", config=config)
        except duckdb.Error as error:
            raise explained(error, "") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def register(self, name: str, rows: "pa.Table | pa.RecordBatchReader") -> None:
        """Make `rows` a relation, in place (a reader can be scanned once); a name that stands is replaced."""
        import duckdb

        try:
            self._connection.register(name, rows)
        except duckdb.Error as error:
            raise explained(error, name) from error

    def unregister(self, name: str) -> None:
        self._connection.unregister(name)

    def function(
        self, name: str, compute: "Callable[..., pa.Array]", parameters: Sequence[str], returns: str
    ) -> None:
        """Make a vectorised SQL function: `compute` takes one pa.Array a parameter and answers one as long.

        Nulls are handed to it; it must be pure. Called by DuckDB's threads with up to 2,048 values at a time.
        """

        def vectorised(*columns: Any) -> Any:  # DuckDB evaluates annotations: none that needs a lazy import
            return compute(*(column.combine_chunks() for column in columns))

        import duckdb

        try:
            self._connection.create_function(
                name, vectorised, list(parameters), returns, type="arrow", null_handling="special"
            )
        except duckdb.Error as error:
            raise explained(error, name) from error

    def run(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> None:
        """Run statements that answer nothing (CREATE, COPY, SET); `$name` in them is a parameter."""
        import duckdb

        try:
            self._connection.execute(sql, dict(parameters) if parameters else None).fetchall()
        except duckdb.Error as error:
            raise explained(error, sql) from error

    def table(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> "pa.Table":
        """The whole answer of a query; timestamps are `timestamp[us, UTC]`."""
        import duckdb

        try:
            return self._relation(sql, parameters).to_arrow_table()
        except duckdb.Error as error:
            raise explained(error, sql) from error

    def row(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> tuple[Any, ...]:
        """The one row of a query's answer, as Python values."""
        import duckdb

        try:
            (row,) = self._relation(sql, parameters).fetchall()
        except duckdb.Error as error:
            raise explained(error, sql) from error
        return tuple(row)

    def columns(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None
    ) -> "dict[str, np.ndarray[Any, Any]]":
        """The answer as numpy columns: for numbers, bools and texts without nulls.

        A null or a DECIMAL is an error (numpy would make masked arrays and floats of them): say in SQL what
        they should be. A timestamp is datetime64[us]; `epoch_us(...)` makes the int64 of it.
        """
        import duckdb
        import numpy as np

        try:
            relation = self._relation(sql, parameters)
            wide = [
                name
                for name, kind in zip(relation.columns, relation.types, strict=True)
                if "DECIMAL" in str(kind)
            ]
            found: dict[str, np.ndarray[Any, Any]] = {} if wide else relation.fetchnumpy()
        except duckdb.Error as error:
            raise explained(error, sql) from error
        masked = [name for name, column in found.items() if isinstance(column, np.ma.MaskedArray)]
        if wide or masked:
            message = (
                f"columns {', '.join(wide or masked)} hold {'decimals' if wide else 'nulls'}: not for numpy"
            )
            raise FeatureflowError(message, hint=sql)
        return found

    def batches(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, rows: int = BATCH_ROWS
    ) -> "Iterator[pa.RecordBatch]":
        """The answer in pieces of at most `rows`, in bounded memory; for queries only.

        The engine is busy until the last piece is taken or the iterator is closed: other calls are refused.
        """
        import duckdb

        try:
            reader = self._relation(sql, parameters).to_arrow_reader(rows)
            try:
                yield from reader
            finally:
                reader.close()
        except duckdb.Error as error:
            raise explained(error, sql) from error

    def _relation(self, sql: str, parameters: Mapping[str, Parameter] | None) -> "duckdb.DuckDBPyRelation":
        return self._connection.sql(sql, params=dict(parameters) if parameters else None)


def explained(error: Exception, sql: str) -> FeatureflowError:
    """DuckDB's error as one of ours: what it says, and how the statement starts as the hint.

    A file that is gone or damaged is a store that does not answer. DuckDB raises the errors of its Parquet
    decoder as its bare root class.
    """
    import duckdb

    what = "DuckDB: " + " ".join(str(error).partition("\nLINE ")[0].split())
    if isinstance(error, duckdb.OutOfMemoryException):
        return FeatureflowError(
            what, hint="raise `engine.memory_limit` in feature_store.yaml, or ask for less at once"
        )
    if ".parquet" in what or type(error) is duckdb.Error:
        return StoreUnavailable(what, hint="a Parquet file is gone or damaged: put it back from a copy")
    sql = f"{sql[:SHOWN_SQL]}…" if len(sql) > SHOWN_SQL else sql
    return (StoreUnavailable if isinstance(error, duckdb.IOException) else FeatureflowError)(what, hint=sql)

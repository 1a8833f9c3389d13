"""Rows written back as JSON, so that a letter about a row can be replayed like any message."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.arrays import valid
from featureflow_cli.sources.literals import EPOCH_UNITS_US
from featureflow_cli.sources.moments import of_arrow


def payloads(columns: Mapping[str, Any], source: Source, rows: npt.NDArray[np.int64]) -> list[bytes]:
    """One JSON object for each of `rows`: the source's columns at their paths, as they came (nulls left out)."""
    documents: list[dict[str, Any]] = [{} for _ in rows]
    for name, column in columns.items():
        path, form = source.paths[name], source.formats.get(name, "")
        for document, value in zip(documents, _values(column.take(pa.array(rows)), form), strict=True):
            if value is not None:
                _put(document, path, value)
    return [
        json.dumps(document, ensure_ascii=False, default=_text).encode(errors="surrogateescape")
        for document in documents
    ]


def as_text(value: Any) -> str:
    """An Arrow scalar of any type for a person to read."""
    if pa.types.is_nested(value.type):
        return json.dumps(value.as_py(), ensure_ascii=False, default=_text)
    if pa.types.is_string(value.type):
        value = value.cast(pa.binary())
    held = value.as_py() if pa.types.is_binary(value.type) else str(value)
    return held.decode(errors="replace") if isinstance(held, bytes) else str(held)


def _values(column: Any, timestamp_format: str) -> list[Any]:
    """Python values that JSON writes; timestamps in the format in which they will be read again."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type) and timestamp_format in EPOCH_UNITS_US:
        moments, unit_us = of_arrow(array)[0].tolist(), EPOCH_UNITS_US[timestamp_format]
        return [
            str(Decimal(moment) / unit_us) if present else None
            for moment, present in zip(moments, valid(array).tolist(), strict=True)
        ]
    if pa.types.is_temporal(array.type):
        return list(array.cast(pa.string()).to_pylist())
    if pa.types.is_string(array.type):  # which may hold bytes that are no UTF-8
        array = array.cast(pa.binary())
    return list(array.to_pylist())


def _put(document: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        below = document.setdefault(parent, {})
        if not isinstance(below, dict):  # two columns read one path, and one of them goes deeper
            return
        document = below
    document[last] = _text(value) if isinstance(value, bytes) else value


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return str(value)

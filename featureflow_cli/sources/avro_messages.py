"""Avro messages become JSON ones: from there on columns, letters and replays are those of JSON.

A message is a zero byte, the id of the schema that wrote it (4 bytes, big endian), and the value in Avro's binary
encoding. Timestamps become ISO 8601, decimals their digits, bytes base64; no number loses a digit.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import orjson

from featureflow_cli.sources import letters
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.letters import Letter, Reason, shown
from featureflow_cli.sources.schema_registry import NoSchema

_HEADER = 5
SchemaOf = Callable[[int], Any]
"""The parsed schema of an id; raises NoSchema."""


class _Unreadable(Exception):
    """A message that is no event."""


def as_json(batch: RawBatch, schema_of: SchemaOf) -> RawBatch:
    """The batch with JSON in place of Avro; what cannot be read is among its letters, as it came."""
    content: list[bytes] = []
    refused: list[Letter] = []
    for index, message in enumerate(batch.content):
        try:
            content.append(_read(message, schema_of))
        except _Unreadable as err:
            offset = int(batch.offsets[index])
            refused.append(Letter(offset, Reason.UNDECODABLE, str(err), message))
    if not refused:
        return replace(batch, content=content)
    kept = ~np.isin(batch.offsets, [letter.offset for letter in refused])
    recorded = batch.recorded_at_us
    return RawBatch(
        content,
        batch.offsets[kept],
        batch.end,
        recorded,
        letters.join([batch.letters, letters.to_table(refused)]),
    )


def _read(message: bytes, schema_of: SchemaOf) -> bytes:
    import fastavro

    if len(message) < _HEADER or message[0] != 0:
        what = "not Avro with a schema's id in front"
        raise _Unreadable(what)
    number = int.from_bytes(message[1:_HEADER], "big")
    try:
        schema = schema_of(number)
    except NoSchema as err:
        what = f"the Schema Registry has {err} of id {number}"
        raise _Unreadable(what) from None
    body = BytesIO(message)
    body.seek(_HEADER)
    try:
        event = fastavro.schemaless_reader(body, schema, None)
        text = orjson.dumps(event, default=_plain)
    except Exception as err:  # whatever its parts raise: EOFError, IndexError, OverflowError, …
        what = f"not of the schema {number}: {shown(str(err) or type(err).__name__)}"
        raise _Unreadable(what) from None
    if body.tell() != len(message):
        what = f"longer than an event of the schema {number}"
        raise _Unreadable(what)
    return text


def _plain(value: object) -> str:
    """What orjson does not know."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(type(value).__name__)

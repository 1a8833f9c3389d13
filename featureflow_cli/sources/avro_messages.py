"""Avro messages as JSON: timestamps become ISO 8601, decimals their digits, bytes base64; no number loses a digit."""

from base64 import b64encode
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import orjson

from featureflow_cli.sources.schemas import HEADER, NoSchema, Reader, Written


def reader(written: Written) -> Reader:
    """How messages of that schema are read; NoSchema where it is none."""
    schema, read = _parsed(written), fastavro.schemaless_reader

    def as_json(message: bytes) -> bytes:
        body = BytesIO(message)
        body.seek(HEADER)
        text = orjson.dumps(read(body, schema, None), default=_plain)
        if body.tell() != len(message):
            what = "it is longer than an event"
            raise ValueError(what)
        return text

    return as_json


def _parsed(written: Written) -> Any:
    named: dict[str, Any] = {}
    try:
        for text in (*written.references.values(), written.text):
            schema = fastavro.parse_schema(orjson.loads(text), named_schemas=named)
    except (ValueError, KeyError, fastavro.schema.SchemaParseException) as err:
        what = f"a schema that is none: {err}"
        raise NoSchema(what) from None
    return schema


def _plain(value: object) -> str:
    """What orjson does not know."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(type(value).__name__)

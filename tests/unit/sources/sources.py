"""Sources and rows that the tests of this room share."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import Decoded
from featureflow_cli.sources.decode import decode_json
from featureflow_cli.sources.letters import Letter, Reason
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.spec.types import TIMESTAMP, parse_type
from featureflow_cli.times import HOUR_US, MINUTE_US

TOPIC = KafkaStream(topic="events", bootstrap_servers="nowhere:9092")


def make_source(columns: Mapping[str, str], **changes: Any) -> Source:
    """A source of the columns `name: type`, at the top level unless `paths` says otherwise."""
    types = {name: parse_type(text) for name, text in columns.items()}
    form = changes.pop("format", "iso8601")
    settings: dict[str, Any] = {
        "name": "events",
        "columns": types,
        "paths": {name: (name,) for name in types} | changes.pop("paths", {}),
        "formats": {name: form for name, kind in types.items() if kind == TIMESTAMP},
        "not_null": frozenset(),
        "timestamp_field": "ts",
        "created_timestamp": None,
        "event_id": None,
        "dedupe_within_us": HOUR_US,
        "allowed_future_us": MINUTE_US,
        "files": None,
        "batch": None,
        "until_us": None,
        "streamed": True,
        "meaning": "m",
    }
    return Source(**settings | changes)


def from_json(source: Source, *messages: bytes | str, first: int = 0) -> Decoded:
    """As the messages of a topic are decoded, and the lines of a file: alike, to the last bit."""
    encoded = [message.encode() if isinstance(message, str) else message for message in messages]
    offsets = np.arange(first, first + len(encoded))
    of_file = decode_json(encoded, offsets, replace(source, kafka=None))
    of_topic = decode_json(encoded, offsets, replace(source, kafka=TOPIC))
    assert of_topic.letters.equals(of_file.letters)
    assert of_topic.rows.equals(of_file.rows)
    assert bits(of_topic.rows) == bits(of_file.rows)
    return of_topic


def bits(rows: Any) -> list[str]:
    """The doubles of a table by their signs, too: Arrow takes zeros for equal."""
    return [repr(column.to_pylist()) for column in rows.columns if pa.types.is_floating(column.type)]


def values(decoded: Decoded, column: str) -> list[Any]:
    """A column's values by the product's rule: timestamps and dates as integers."""
    found = decoded.rows.column(column)
    if pa.types.is_timestamp(found.type):
        found = found.cast(pa.int64())
    elif pa.types.is_date(found.type):
        found = found.cast(pa.int32())
    return list(found.to_pylist())


def to_letters(table: Any) -> list[Letter]:
    """The rows of a table of letters, in order."""
    return [
        Letter(row["offset"], Reason(row["reason"]), row["detail"], row["payload"])
        for row in table.select(["offset", "reason", "detail", "payload"]).to_pylist()
    ]


def reasons(decoded: Decoded) -> dict[int, str]:
    """Reason by offset."""
    return {letter.offset: letter.reason.value for letter in to_letters(decoded.letters)}


def only_letter(decoded: Decoded) -> Letter:
    (letter,) = to_letters(decoded.letters)
    return letter

"""Dead letters: what could not become an event, whole, with place and reason (design.md 4, Bad input).

While a batch is decoded a letter is `BATCH_SCHEMA`; once source, partition and moment are known it is
`SCHEMA`, which is what the offline store keeps. The payload is bytes: what came need not be text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SHOWN_CHARACTERS = 80
"""How much of a value a detail echoes; the payload holds all of it."""


NO_VALUE = "no value (a tombstone, or an empty message)"
"""Why a message of no bytes is no event."""


class Reason(StrEnum):
    """Why an event became a letter."""

    UNDECODABLE = (
        "undecodable"  # no event can be read from it: not JSON, a line of another width, a broken file
    )
    WRONG_TYPE = "wrong_type"  # a value that does not fit its column's declared type
    NULL = "null"  # nothing where the schema says `not null`, and no timestamp or event id
    FUTURE = "future"  # more than `allowed_future` ahead of the time that its source recorded


BATCH_SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
NO_LETTERS = pa.Table.from_batches([], BATCH_SCHEMA)  # `empty_table` loads pandas
MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        *BATCH_SCHEMA,
        pa.field("recorded_at", MOMENT, nullable=False),
        pa.field("lettered_at", MOMENT, nullable=False),
    ]
)


@dataclass(frozen=True)
class Letter:
    """One row of BATCH_SCHEMA."""

    offset: int
    reason: Reason
    detail: str
    payload: bytes


def to_table(letters: Sequence[Letter]) -> Any:
    """Letters as BATCH_SCHEMA, in the given order (chunked where the payloads pass 2 GB)."""
    if not letters:
        return NO_LETTERS
    return pa.table(
        [
            pa.array([letter.offset for letter in letters], pa.int64()),
            pa.array([letter.reason.value for letter in letters], pa.string()),
            pa.array([letter.detail for letter in letters], pa.string()),
            pa.array([letter.payload for letter in letters], pa.binary()),
        ],
        schema=BATCH_SCHEMA,
    )


def join(tables: Sequence[Any]) -> Any:
    """All letters of one batch in order of offset."""
    some = [table for table in tables if table.num_rows]
    return pa.concat_tables(some).sort_by("offset") if some else NO_LETTERS


def address(
    letters: Any,
    *,
    source: str,
    partition: int,
    recorded_at_us: int | npt.NDArray[np.int64],
    lettered_at_us: int,
) -> Any:
    """BATCH_SCHEMA letters as SCHEMA; `recorded_at_us` of each letter, or of all."""
    count = letters.num_rows
    moments = np.broadcast_to(np.asarray(recorded_at_us, dtype=np.int64), (count,))
    return pa.table(
        [
            pa.repeat(pa.scalar(source, pa.string()), count),
            pa.repeat(pa.scalar(partition, pa.int32()), count),
            *letters.columns,
            pa.array(moments, pa.int64()).cast(MOMENT),
            pa.repeat(pa.scalar(lettered_at_us, MOMENT), count),
        ],
        schema=SCHEMA,
    )


def shown(text: str) -> str:
    """A text as a detail quotes it: one line of at most SHOWN_CHARACTERS."""
    cut = text[:SHOWN_CHARACTERS]
    printable = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut
    )
    return f"{printable}… ({len(text):,} characters)" if len(text) > SHOWN_CHARACTERS else printable

"""Decoded batches on their way to another process: their rows stay where they are, in memory that both see."""

import os
import sys
from collections.abc import Mapping, Sequence
from mmap import PROT_READ, mmap
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa

from featureflow_cli.sources.arrays import Ints
from featureflow_cli.sources.batches import Decoded, RawBatch


class Share(NamedTuple):
    """What is one batch's: so many of the rows, and of the letters; `offsets` are of both."""

    partition: int
    end: int
    offsets: Ints
    recorded_at_us: int | Ints
    rows: int
    letters: int


def divided(found: Mapping[int, Sequence[RawBatch]]) -> tuple[list[Share], list[Any]]:
    """How batches of Decoded divide what they hold: all rows in one table, all letters in another."""
    shares, rows, letters = [], [], []
    for partition, batches in found.items():
        for batch in batches:
            offsets = batch.offsets
            if batch.letters.num_rows:  # those of its reader: no others' from now on
                offsets = np.union1d(offsets, batch.letters.column("offset").to_numpy())
            counts = (len(batch.content.rows), len(batch.content.letters))
            shares.append(Share(partition, batch.end, offsets, batch.recorded_at_us, *counts))
            rows.append(batch.content.rows)
            letters.append(batch.content.letters)
    return shares, [pa.concat_tables(rows), pa.concat_tables(letters)] if shares else []


def put_together(shares: Sequence[Share], tables: Sequence[Any]) -> dict[int, list[RawBatch]]:
    """The batches again."""
    rows, letters = tables
    row = letter = 0
    found: dict[int, list[RawBatch]] = {}
    for share in shares:
        content = Decoded(rows[row : row + share.rows], letters[letter : letter + share.letters])
        row, letter = row + share.rows, letter + share.letters
        batch = RawBatch(content, share.offsets, share.end, share.recorded_at_us)
        found.setdefault(share.partition, []).append(batch)
    return found


def hand_over(tables: Sequence[Any], line: Connection) -> None:
    """Over a socket goes no more than the right to look at them; 100,000 rows through it would keep both ends 30 ms."""
    with _memory() as memory:
        for table in tables:
            with pa.ipc.new_stream(pa.PythonFile(memory, "w"), table.schema) as stream:
                stream.write_table(table)
        memory.flush()
        send_handle(line, memory.fileno(), None)


def taken_over(line: Connection) -> list[Any]:
    """The two tables; the memory is free again when nothing uses them."""
    handle = recv_handle(line)
    try:
        mapped = pa.BufferReader(pa.py_buffer(mmap(handle, 0, prot=PROT_READ)))
    finally:
        os.close(handle)
    return [pa.ipc.open_stream(mapped).read_all() for _ in range(2)]


def _memory() -> IO[bytes]:
    """Memory of the kernel's, on Linux; elsewhere a file without a name."""
    return os.fdopen(os.memfd_create("rows"), "wb") if sys.platform == "linux" else TemporaryFile("wb")

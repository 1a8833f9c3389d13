"""Decoded batches on their way to another process, by memory that both see."""

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa

from featureflow_cli.errors import StoreUnavailable
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
    return shares, [pa.concat_tables(each).combine_chunks() for each in (rows, letters)] if shares else []


def put_together(shares: Sequence[Share], memory: bytes) -> dict[int, list[RawBatch]]:
    """The batches again, out of what was `filled` with the tables."""
    stream = pa.BufferReader(memory)
    rows, letters = (pa.ipc.open_stream(stream).read_all() for _ in range(2))
    row = letter = 0
    found: dict[int, list[RawBatch]] = {}
    for share in shares:
        content = Decoded(rows[row : row + share.rows], letters[letter : letter + share.letters])
        row, letter = row + share.rows, letter + share.letters
        batch = RawBatch(content, share.offsets, share.end, share.recorded_at_us)
        found.setdefault(share.partition, []).append(batch)
    return found


def filled(tables: Sequence[Any]) -> IO[bytes]:
    """Memory of the kernel's that holds the tables. StoreUnavailable where there is none."""
    try:
        memory = _memory()
        for table in tables:
            with pa.ipc.new_stream(pa.PythonFile(memory, "w"), table.schema) as stream:
                stream.write_table(table)
        memory.flush()
    except OSError as err:
        what = f"rows that were read from a topic cannot be handed over: {err}"
        raise StoreUnavailable(what, hint=scarce(err)) from None
    return memory


def scarce(err: OSError) -> str:
    """A hint at what the machine has too little of."""
    if err.errno in {errno.EMFILE, errno.ENFILE}:
        return "are too many files open, or is their limit too low (`ulimit -n`)?"
    return "is there memory left?"


def hand_over(memory: IO[bytes], line: Connection) -> None:
    """Over the socket goes the right to read it: 100,000 rows through a socket would keep both ends for 30 ms."""
    send_handle(line, memory.fileno(), None)


def taken_over(line: Connection) -> bytes:
    """All of it, as a copy (3 ms for 100,000 rows): memory that is only looked at would cost a file descriptor.

    OSError where there is no descriptor left even for now; EOFError, ConnectionError where who hands it over is gone.
    """
    try:
        handle = recv_handle(line)
    except RuntimeError:  # what came was dropped on its way
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
    with os.fdopen(handle, "rb") as memory:
        memory.seek(0)
        return memory.read()


def _memory() -> IO[bytes]:
    """A file that has no name; on Linux, that is in memory."""
    return os.fdopen(os.memfd_create("rows"), "wb") if sys.platform == "linux" else TemporaryFile("wb")

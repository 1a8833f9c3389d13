"""Lanes: requests that wait for the same reader are read together.

While one read of a lane is in flight, what arrives waits, and is the next read: the busier the server, the
larger its reads, and the less each costs. Reads run on threads; the event loop never waits for a store.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.vector import Reader, Vector
from featureflow_cli.spec.types import Value
from featureflow_cli.times import Clock

Rows = Sequence[Mapping[str, Value]]
ROWS_AT_ONCE = 128
"""A read takes no further request once it has this many rows."""


@dataclass(frozen=True)
class Waiting:
    rows: Rows
    answer: "asyncio.Future[list[Vector]]"


class Lane:
    """All reads of one reader; to be used on one event loop."""

    def __init__(self, reader: Reader, clock: Clock, threads: Executor) -> None:
        self._reader = reader
        self._clock = clock
        self._threads = threads
        self._waiting: list[Waiting] = []
        self._flight: asyncio.Task[None] | None = None

    async def read(self, rows: Rows) -> list[Vector]:
        """One vector a typed row at the present moment; rows of other requests may be read with them."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(rows, loop.create_future())
        self._waiting.append(waiting)
        if self._flight is None:
            self._flight = loop.create_task(self._fly())
        return await waiting.answer

    async def read_at(self, rows: Rows, as_of_us: int) -> list[Vector]:
        """The same at exactly `as_of_us`, by itself."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, rows, as_of_us)

    async def _fly(self) -> None:
        """Read what waits until nothing does. A cancelled request (it took too long) is not read any more."""
        loop = asyncio.get_running_loop()
        while batch := self._board():
            try:
                answers = await loop.run_in_executor(
                    self._threads, self._together, [each.rows for each in batch]
                )
            except Exception as err:  # whatever it is, nobody may be left waiting
                answers = [err] * len(batch)
            for each, answer in zip(batch, answers, strict=True):
                if each.answer.done():
                    continue
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result(answer)
        self._flight = None

    def _board(self) -> list[Waiting]:
        batch: list[Waiting] = []
        count = taken = 0
        for each in self._waiting:
            if count >= ROWS_AT_ONCE:
                break
            taken += 1
            if not each.answer.done():
                batch.append(each)
                count += len(each.rows)
        del self._waiting[:taken]
        return batch

    def _read(self, rows: Rows, as_of_us: int | None = None) -> list[Vector]:
        try:
            taken = self._reader.take(rows)
        except StoreUnavailable:
            taken = self._reader.take(rows)  # this thread's connection may be the last to learn of a restart
        return self._reader.answer(rows, taken, self._clock(), as_of_us=as_of_us)

    def _together(self, requests: list[Rows]) -> "list[list[Vector] | Exception]":
        """One read for all; where that fails by a row's fault, each by itself: it fails its own request only."""
        try:
            vectors = iter(self._read([row for rows in requests for row in rows]))
            return [[next(vectors) for _ in rows] for rows in requests]
        except StoreUnavailable:
            raise
        except FeatureflowError as err:
            return [err] if len(requests) == 1 else [self._alone(rows) for rows in requests]

    def _alone(self, rows: Rows) -> "list[Vector] | Exception":
        try:
            return self._read(rows)
        except FeatureflowError as err:
            return err

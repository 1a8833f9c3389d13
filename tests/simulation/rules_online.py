"""The rules of what is written online, states and markers: how each is switched off."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
from greenlet import getcurrent

from featureflow_cli.compute import state
from featureflow_cli.evaluate import bootstrap
from featureflow_cli.plan.applied import Build
from featureflow_cli.stream import builds, crew, merging, worker, writing
from featureflow_cli.stream.parts import Part
from featureflow_cli.stream.resident import Resident
from featureflow_cli.stream.worker import Worker
from featureflow_cli.stream.writing import Writing
from tests.simulation.definitions import RUNG_US, TTL_US
from tests.simulation.patching import patched, together

# ---- online writes


def _cover() -> Any:
    return patched(merging, "covered_ends", lambda original, *args: np.full_like(original(*args), -1))


def _overlap() -> Any:
    def covered(original: Any, kept: Any, ends: Any, view: Any, spans: Any) -> Any:
        found = original(kept, ends, view, spans)
        fresh = view.offsets >= found
        places = view.events.entity * 1000 + view.partitions
        found[np.isin(places, places[fresh])] = -1
        return found

    return patched(merging, "covered_ends", covered)


def _confirm() -> Any:
    def send(original: Any, *args: Any) -> Any:
        sent = original(*args)
        return replace(sent, answer=lambda: np.ones_like(sent.answer()))

    return patched(merging, "_send", send)


def _version() -> Any:
    def counted(original: Any, *args: Any) -> Any:
        places, writes = original(*args)
        return places, replace(writes, versions=writes.expected + np.uint64(1))

    return patched(merging, "_writes", counted)


def _cache() -> Any:
    kept: WeakKeyDictionary[Any, dict[Any, Resident]] = WeakKeyDictionary()

    def resident(original: Any, members: Any, limit: int) -> Resident:
        mine, fresh = kept.setdefault(getcurrent().process, {}), original(members, limit)
        return mine.setdefault((fresh.entity, fresh.fields), fresh)

    return patched(writing, "Resident", resident)


def _expiry() -> Any:
    def expires(original: Any, view: Any, newest_us: Any, now_us: int) -> Any:
        found = original(view, newest_us, now_us)
        return None if found is None else np.full_like(found, now_us + TTL_US)

    return together(patched(merging, "expires_us", expires), patched(bootstrap, "expires_us", expires))


def _age() -> Any:
    """What is older than the worker's clock says that a window is goes."""
    clock: list[Callable[[], int]] = []

    def write_states(original: Any, store: Any, entities: Any, spans: Any, now: Any) -> Any:
        clock[:] = [now]
        return original(store, entities, spans, now)

    def merge(original: Any, view: Any, parts: Any) -> Any:
        found = original(view, parts)
        if view.ttl_us is None or not clock:
            return found
        low_us = (clock[0]() - TTL_US) // RUNG_US * RUNG_US
        newest, cells = found.columns
        return replace(found, columns=(newest, cells.take(cells.tile >= low_us)))

    return together(patched(writing, "write_states", write_states), patched(state, "merge", merge))


# ---- markers


def _marker() -> Any:
    def take(original: Any, *args: Any) -> Part:
        found: Part = original(*args)
        return replace(found, position=max(found.position, found.decided), replay=None)

    return patched(worker, "take", take)


def _shard() -> Any:
    def first(_: Any, store: Any, kept: Any) -> Any:
        return [store.marker(0, kept.field)]

    return together(*(patched(module, "markers", first) for module in (builds, worker, writing)))


def _acks() -> Any:
    def written(original: Any, self: Writing, batch: Any) -> Any:
        self.mark(batch)
        return original(self, batch)

    return patched(Writing, "_written", written)


def _rewind() -> Any:
    """What is lost with a connection is found out, but reading goes on where it stood."""

    def lose(_: Any, self: Worker) -> None:
        self._lost = True
        self._writing = Writing((), self._outside, self.progress)

    def take(original: Any, self: Worker, partitions: Sequence[int]) -> None:
        original(self, [each for each in partitions if each not in self.parts])

    return together(patched(Worker, "lose", lose), patched(Worker, "_take", take))


def _idle() -> Any:
    return patched(Worker, "look", lambda _, self: True)


def _bootstrap() -> Any:
    """Only the markers say that it was done."""
    return patched(bootstrap, "_write_missing", lambda *_: 0)


def _learn() -> Any:
    """New definitions are taken over, but reading goes on where it stood."""

    def learn(original: Any, self: Any) -> bool:
        stood = {}
        for each in self.workers:
            each.commit_offline()
            stood |= {partition: part.position for partition, part in each.parts.items()}
        learned: bool = original(self)
        for each in self.workers if learned else ():
            each.stood = stood
        return learned

    def take(original: Any, self: Worker, partitions: Sequence[int]) -> None:
        original(self, partitions)
        stood = getattr(self, "stood", {})
        for partition in partitions:
            part = self.parts[partition]
            if stood.pop(partition, None) == part.decided:
                self.parts[partition] = replace(part, position=part.decided, replay=None)

    return together(patched(crew.Crew, "learn", learn), patched(Worker, "_take", take))


def _build() -> Any:
    return patch.object(Build, "field", property(lambda self: self.fingerprint[:12]))


ONLINE: dict[str, Callable[[], Any]] = {
    "cover": _cover, "overlap": _overlap, "confirm": _confirm, "version": _version, "cache": _cache,
    "expiry": _expiry, "age": _age, "marker": _marker, "shard": _shard, "acks": _acks, "rewind": _rewind,
    "idle": _idle, "bootstrap": _bootstrap, "learn": _learn, "build": _build,
}  # fmt: skip

"""The rules of the protocol (design.md 4 and 5, in brackets there), each switched off at one small place.

`without(name)` patches the production code that keeps the rule or, where a store keeps it, breaks the stand-in's
promise. What remains is the production code with one rule less: some schedule must then break a law.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
from greenlet import getcurrent

from featureflow_cli.compute import state
from featureflow_cli.evaluate import bootstrap
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.plan.applied import Build
from featureflow_cli.sources import verdicts
from featureflow_cli.sources.verdicts import Memory
from featureflow_cli.stream import builds, commits, crew, deciding, merging, parts, worker, writing
from featureflow_cli.stream.parts import Part
from featureflow_cli.stream.resident import Resident
from featureflow_cli.stream.worker import Worker
from featureflow_cli.stream.writing import Writing
from tests.simulation.definitions import RUNG_US, TTL_US
from tests.simulation.promises import Promises

IMPOSSIBLE = {
    "prior": "one thread writes, a batch at a time: its states until all are acknowledged, then its marker, and only"
    " then is the next one handed over",
    "floors": "no header entry is ever dropped, so there are no numbered floors (12 bytes a partition are cheap)",
}
"""Rules that this architecture cannot break, and why."""

Patches = Iterator[None]


def _patched(target: Any, name: str, by: Callable[..., Any]) -> Any:
    """`target.name` becomes a function that is handed the original first."""
    original = getattr(target, name)

    def changed(*args: Any, **named: Any) -> Any:
        return by(original, *args, **named)

    return patch.object(target, name, changed)


# ---- online writes


def _cover() -> Any:
    return _patched(merging, "covered_ends", lambda original, *args: np.full_like(original(*args), -1))


def _overlap() -> Any:
    def covered(original: Any, kept: Any, ends: Any, view: Any, spans: Any) -> Any:
        found = original(kept, ends, view, spans)
        fresh = view.offsets >= found
        places = view.events.entity * 1000 + view.partitions
        found[np.isin(places, places[fresh])] = -1
        return found

    return _patched(merging, "covered_ends", covered)


def _confirm() -> Any:
    def sent(original: Any, *args: Any) -> Any:
        return np.ones_like(original(*args))

    return _patched(merging, "_send", sent)


def _version() -> Any:
    def counted(original: Any, *args: Any) -> Any:
        places, writes = original(*args)
        return places, replace(writes, versions=writes.expected + np.uint64(1))

    return _patched(merging, "_writes", counted)


def _cache() -> Any:
    kept: WeakKeyDictionary[Any, dict[Any, Resident]] = WeakKeyDictionary()

    def resident(original: Any, members: Any, limit: int) -> Resident:
        mine, fresh = kept.setdefault(getcurrent().process, {}), original(members, limit)
        return mine.setdefault((fresh.entity, fresh.fields), fresh)

    return _patched(writing, "Resident", resident)


def _expiry() -> Any:
    def expires(original: Any, view: Any, newest_us: Any, now_us: int) -> Any:
        found = original(view, newest_us, now_us)
        return None if found is None else np.full_like(found, now_us + TTL_US)

    return _together(_patched(merging, "expires_us", expires), _patched(bootstrap, "expires_us", expires))


def _age() -> Any:
    """What is older than the worker's clock says that a window is goes."""
    clock: list[Callable[[], int]] = []

    def write_states(original: Any, store: Any, resident: Any, seen: Any, spans: Any, now: Any) -> Any:
        clock[:] = [now]
        return original(store, resident, seen, spans, now)

    def merge(original: Any, view: Any, parts: Any) -> Any:
        found = original(view, parts)
        if view.ttl_us is None or not clock:
            return found
        low_us = (clock[0]() - TTL_US) // RUNG_US * RUNG_US
        newest, cells = found.columns
        return replace(found, columns=(newest, cells.take(cells.tile >= low_us)))

    return _together(_patched(writing, "write_states", write_states), _patched(state, "merge", merge))


# ---- markers


def _marker() -> Any:
    def take(original: Any, *args: Any) -> Part:
        found: Part = original(*args)
        return replace(found, position=max(found.position, found.decided), replay=None)

    return _patched(worker, "take", take)


def _shard() -> Any:
    def first(_: Any, store: Any, kept: Any) -> Any:
        return [store.marker(0, kept.field)]

    return _together(*(_patched(module, "markers", first) for module in (builds, worker, writing)))


def _acks() -> Any:
    def write(original: Any, self: Writing, batch: Any) -> Any:
        self.mark(batch)
        return original(self, batch)

    return _patched(Writing, "write", write)


def _rewind() -> Any:
    """What is lost with a connection is found out, but reading goes on where it stood."""

    def lose(_: Any, self: Worker) -> None:
        self._lost = True
        self._writing = Writing((), self._outside, self.progress)

    def take(original: Any, self: Worker, partitions: Sequence[int]) -> None:
        original(self, [each for each in partitions if each not in self.parts])

    return _together(_patched(Worker, "lose", lose), _patched(Worker, "_take", take))


def _idle() -> Any:
    return _patched(Worker, "look", lambda _, self: True)


def _bootstrap() -> Any:
    """Only the markers say that it was done."""
    return _patched(bootstrap, "_write_missing", lambda *_: 0)


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

    return _together(_patched(crew.Crew, "learn", learn), _patched(Worker, "_take", take))


def _build() -> Any:
    return patch.object(Build, "field", property(lambda self: self.fingerprint[:12]))


# ---- the log decides


def _sinks() -> Any:
    def take(
        original: Any, partition: int, low: int, source: Any, outside: Any, base: Any, is_kept: bool
    ) -> Part:
        found: Part = original(partition, low, source, outside, base, is_kept)
        start = outside.intake._topic.reported.get(partition, len(outside.intake._topic.records[partition]))
        rows = outside.replayed(base, partition, start, found.decided) if start < found.decided else None
        return replace(found, position=start, replay=rows)

    return _patched(worker, "take", take)


def _memory() -> Any:
    return _patched(parts, "memory_of", lambda _, source, *rest: Memory(source.dedupe_within_us))


def _log() -> Any:
    def take(original: Any, *args: Any) -> Part:
        found: Part = original(*args)
        return replace(found, decided=found.position, replay=None)

    return _patched(worker, "take", take)


def _seen(rows: Any, judged: Sequence[tuple[Memory, int]], source: Any, accepted: Sequence[Any]) -> None:
    """Take the moments of these rows as the partitions' newest, where they are."""
    moments, start = verdicts._moments(rows.column(source.timestamp_field)), 0
    for (memory, count), chosen in zip(judged, accepted, strict=True):
        mine = moments[start : start + count][chosen]
        memory.newest_us = max(memory.newest_us, *mine.tolist(), memory.newest_us)
        start += count


def _accepted() -> Any:
    def judge_each(original: Any, rows: Any, recorded: Any, judged: Any, source: Any) -> Any:
        found = original(rows, recorded, judged, source)
        _seen(rows, judged, source, [slice(None)] * len(judged))
        return found

    return _patched(deciding, "judge_each", judge_each)


def _each() -> Any:
    def judge_each(original: Any, rows: Any, recorded: Any, judged: Any, source: Any) -> Any:
        found = original(rows, recorded, judged, source)
        _seen(rows, judged, source, [verdict.accepted for verdict in found])
        return original(rows, recorded, judged, source)

    return _patched(deciding, "judge_each", judge_each)


def _future() -> Any:
    def decided(
        original: Any, raw: Mapping[int, Any], spans: Any, source: Any, memories: Any, now_us: int, *rest: Any
    ) -> Any:
        raw = {p: [replace(each, recorded_at_us=now_us) for each in some] for p, some in raw.items()}
        return original(raw, spans, source, memories, now_us, *rest)

    return _patched(worker, "decided", decided)


# ---- offline commits


def _letters() -> Any:
    def commit(original: Any, outside: Any, *rest: Any) -> Any:
        held: list[Any] = []
        done = original(replace(outside, letters=SimpleNamespace(append=held.append)), *rest)
        for each in held:
            outside.letters.append(each)
        return done

    return _patched(commits, "commit", commit)


def _meaning() -> Any:
    def continues(original: Any, self: OfflineLog, now: Any, ends: Any, base: Any) -> None:
        mine = self.source.meaning
        original(self, replace(now, meaning=mine), ends, replace(base, meaning=mine))

    return _together(
        _patched(OfflineLog, "raise_meaning", lambda _, self, base, order=None: base),
        _patched(OfflineLog, "_continues", continues),
    )


def _continue() -> Any:
    return _patched(
        OfflineLog, "_continues", lambda original, self, now, ends, base: original(self, now, {}, base)
    )


def _trim() -> Any:
    """What is refused is committed again as it is."""
    return _patched(commits, "trim", lambda _, rows, spans, now: (rows, dict(spans)))


@contextmanager
def _together(*several: Any) -> Patches:
    with ExitStack() as stack:
        for each in several:
            stack.enter_context(each)
        yield


_PATCHES: dict[str, Callable[[], Any]] = {
    "cover": _cover, "overlap": _overlap, "confirm": _confirm, "version": _version, "cache": _cache,
    "expiry": _expiry, "age": _age, "marker": _marker, "shard": _shard, "acks": _acks, "rewind": _rewind,
    "idle": _idle, "bootstrap": _bootstrap, "learn": _learn, "build": _build, "sinks": _sinks, "memory": _memory,
    "log": _log, "accepted": _accepted, "each": _each, "future": _future, "letters": _letters, "meaning": _meaning,
    "continue": _continue, "trim": _trim,
}  # fmt: skip
PROMISED = tuple(field.name for field in fields(Promises))
RULES = (*_PATCHES, *PROMISED)


@contextmanager
def without(rule: str) -> Iterator[Promises]:
    """While this lasts, the rule is off; what the stand-ins still promise."""
    if rule in PROMISED:
        yield replace(Promises(), **{rule: False})
        return
    with _PATCHES[rule]():
        yield Promises()

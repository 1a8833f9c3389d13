"""The rules of the log, which decides, and of the commits to it: how each is switched off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.sources import verdicts
from featureflow_cli.sources.verdicts import Memory
from featureflow_cli.stream import commits, deciding, parts, worker
from featureflow_cli.stream.parts import Part
from tests.simulation.patching import patched, together

# ---- the log decides


def _sinks() -> Any:
    def take(
        original: Any, partition: int, low: int, source: Any, outside: Any, base: Any, is_kept: bool
    ) -> Part:
        found: Part = original(partition, low, source, outside, base, is_kept)
        start = outside.intake._topic.reported.get(partition, len(outside.intake._topic.records[partition]))
        rows = outside.replayed(base, partition, start, found.decided) if start < found.decided else None
        return replace(found, position=start, replay=rows)

    return patched(worker, "take", take)


def _memory() -> Any:
    return patched(parts, "memory_of", lambda _, source, *rest: Memory(source.dedupe_within_us))


def _log() -> Any:
    def take(original: Any, *args: Any) -> Part:
        found: Part = original(*args)
        return replace(found, decided=found.position, replay=None)

    return patched(worker, "take", take)


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

    return patched(deciding, "judge_each", judge_each)


def _each() -> Any:
    def judge_each(original: Any, rows: Any, recorded: Any, judged: Any, source: Any) -> Any:
        found = original(rows, recorded, judged, source)
        _seen(rows, judged, source, [verdict.accepted for verdict in found])
        return original(rows, recorded, judged, source)

    return patched(deciding, "judge_each", judge_each)


def _future() -> Any:
    def decided(
        original: Any, raw: Mapping[int, Any], spans: Any, source: Any, memories: Any, now_us: int, *rest: Any
    ) -> Any:
        raw = {p: [replace(each, recorded_at_us=now_us) for each in some] for p, some in raw.items()}
        return original(raw, spans, source, memories, now_us, *rest)

    return patched(worker, "decided", decided)


# ---- offline commits


def _letters() -> Any:
    def commit(original: Any, outside: Any, *rest: Any) -> Any:
        held: list[Any] = []
        done = original(replace(outside, letters=SimpleNamespace(append=held.append)), *rest)
        for each in held:
            outside.letters.append(each)
        return done

    return patched(commits, "commit", commit)


def _meaning() -> Any:
    def continues(original: Any, self: OfflineLog, now: Any, ends: Any, base: Any) -> None:
        mine = self.source.meaning
        original(self, replace(now, meaning=mine), ends, replace(base, meaning=mine))

    return together(
        patched(OfflineLog, "raise_meaning", lambda _, self, base, order=None: base),
        patched(OfflineLog, "_continues", continues),
    )


def _continue() -> Any:
    return patched(
        OfflineLog, "_continues", lambda original, self, now, ends, base: original(self, now, {}, base)
    )


def _trim() -> Any:
    """What is refused is committed again as it is."""
    return patched(commits, "trim", lambda _, rows, spans, now: (rows, dict(spans)))


OFFLINE: dict[str, Callable[[], Any]] = {
    "sinks": _sinks, "memory": _memory, "log": _log, "accepted": _accepted, "each": _each, "future": _future,
    "letters": _letters, "meaning": _meaning, "continue": _continue, "trim": _trim,
}  # fmt: skip

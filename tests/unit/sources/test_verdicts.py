"""Duplicates and the future: the law of design.md 1.6 and 1.7, held to the brute-force definition."""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.reference_rows import accepted
from featureflow_cli.compute.views import Source
from featureflow_cli.sources.letters import Reason
from featureflow_cli.sources.verdicts import Memory, judge
from featureflow_cli.spec.types import arrow_type
from featureflow_cli.times import parse_timestamp
from tests.unit.sources.sources import from_json, make_source, to_letters

WITHIN, ALLOWED = 10, 5


def source_of(id_type: str = "string", event_id: str | None = "id") -> Source:
    return make_source(
        {"id": id_type, "ts": "timestamp"},
        event_id=event_id,
        dedupe_within_us=WITHIN,
        allowed_future_us=ALLOWED,
    )


@dataclass(frozen=True)
class Event:
    id: str
    ts: int
    recorded: int


def rows_of(events: list[Event], first: int = 0) -> Any:
    return pa.table(
        {
            "id": pa.array([event.id for event in events], pa.string()),
            "ts": pa.array([event.ts for event in events], pa.timestamp("us", tz="UTC")),
            "_offset": pa.array(range(first, first + len(events)), pa.int64()),
        }
    )


def naive(events: list[Event]) -> list[str]:
    """What becomes of each by the brute-force definition."""
    given: list[tuple[int, int, Any]] = [
        (0, event.recorded, {"id": event.id, "ts": event.ts, "place": place})
        for place, event in enumerate(events)
    ]
    kept = {event["place"] for event in accepted(source_of(), given)}
    return [
        "accepted" if place in kept else "future" if event.ts > event.recorded + ALLOWED else "duplicate"
        for place, event in enumerate(events)
    ]


def run(events: list[Event], sizes: list[int], memory: Memory | None = None) -> tuple[list[str], Memory]:
    """Fates and the memory at the end, in batches of those sizes (the last one takes the rest)."""
    memory = memory or Memory(WITHIN)
    fates: list[str] = []
    bounds = [0, *np.minimum(np.cumsum(sizes, dtype=int), len(events)).tolist(), len(events)]
    for start, stop in pairwise(bounds):
        batch = events[start:stop]
        recorded = np.array([event.recorded for event in batch], np.int64)
        verdict = judge(rows_of(batch, start), recorded, memory, source_of())
        memory.remember(verdict)
        future = {letter.offset for letter in to_letters(verdict.letters)}
        found = [
            "accepted" if kept else "future" if start + row in future else "duplicate"
            for row, kept in enumerate(verdict.accepted)
        ]
        assert found.count("duplicate") == verdict.duplicates
        fates += found
    return fates, memory


events = st.lists(
    st.builds(
        Event, st.sampled_from("abcdefg"), st.integers(0, 60), st.integers(0, 60).map(lambda late: 30 + late)
    ),
    max_size=40,
)


@given(events, st.lists(st.integers(0, 12), max_size=8))
def test_every_batching_judges_as_the_definition_does(history: list[Event], sizes: list[int]) -> None:
    fates, _ = run(history, sizes)
    assert fates == naive(history)


@given(
    st.lists(st.tuples(st.sampled_from([-2, -1, 0, 7]), events), max_size=8), st.sampled_from(["id", None])
)
def test_partitions_are_judged_each_by_itself(
    turns: list[tuple[int, list[Event]]], event_id: str | None
) -> None:
    """In whatever turns their batches come; without an event id nothing is a duplicate."""
    source, memories = source_of(event_id=event_id), defaultdict(lambda: Memory(WITHIN))
    given: list[tuple[int, int, Any]] = []
    kept: set[int] = set()
    for partition, batch in turns:
        places = np.arange(len(given), len(given) + len(batch))
        given += [
            (partition, event.recorded, {"id": event.id, "ts": event.ts, "place": place})
            for place, event in zip(places.tolist(), batch, strict=True)
        ]
        recorded = np.array([event.recorded for event in batch], np.int64)
        verdict = judge(rows_of(batch), recorded, memories[partition], source)
        memories[partition].remember(verdict)
        kept |= set(places[verdict.accepted].tolist())
    assert {event["place"] for event in accepted(source, given)} == kept


@given(events, events, st.randoms())
def test_a_memory_made_anew_from_the_log_judges_alike(
    before: list[Event], after: list[Event], random: Any
) -> None:
    """From the accepted rows in any order, also where those past remembering are missing."""
    fates, memory = run(before, [])
    log = [event for event, fate in zip(before, fates, strict=True) if fate == "accepted"]
    newest = max((event.ts for event in log), default=0)
    random.shuffle(log)
    recent = [event for event in log if event.ts >= newest - WITHIN]
    expected, _ = run(after, [], memory)
    for kept in (log, recent):
        table = rows_of(kept).select(["ts", "id"])
        again, _ = run(after, [], Memory.of_log(table, source_of()))
        assert again == expected
    assert fates + expected == naive(before + after)


@given(events)
def test_judging_changes_no_memory(history: list[Event]) -> None:
    """The same batch judged twice has the same verdict: only `remember` learns."""
    _, memory = run(history[:20], [])
    held, newest = len(memory), memory.newest_us
    rows, recorded = rows_of(history[20:]), np.array([event.recorded for event in history[20:]], np.int64)
    first, second = (judge(rows, recorded, memory, source_of()) for _ in range(2))
    assert first.accepted.tolist() == second.accepted.tolist()
    assert (len(memory), memory.newest_us) == (held, newest)


def test_what_is_past_remembering_is_forgotten() -> None:
    """A long stream holds no more ids than it must, and judges as before."""
    memory = Memory(WITHIN)
    for start in range(0, 2000, 20):
        events = [Event(str(moment), moment, moment) for moment in range(start, start + 20)]
        memory.remember(judge(rows_of(events), 2000, memory, source_of()))
        assert len(memory) <= 70
        assert len(memory.accepted._blocks) <= 4
    again = [Event("1999", 1999, 1999), Event("1989", 1989, 1989), Event("1988", 1988, 1988)]
    assert judge(rows_of(again), 2000, memory, source_of()).accepted.tolist() == [False, False, True]


def test_an_event_of_the_future_neither_counts_nor_is_remembered() -> None:
    #      recorded at 100, 5 allowed
    #   ts 105   106   105
    #   id a     b     b      -> b at 106 is a letter; so b at 105 is new
    rows = rows_of([Event("a", 105, 0), Event("b", 106, 0), Event("b", 105, 0)], first=7)
    verdict = judge(rows, 100, Memory(WITHIN), source_of())
    assert verdict.accepted.tolist() == [True, False, True]
    (letter,) = to_letters(verdict.letters)
    assert (letter.offset, letter.reason) == (8, Reason.FUTURE)
    assert "is more than 5us after 1970-01-01T00:00:00.000100Z" in letter.detail
    assert b'"id": "b"' in letter.payload


def test_year_9999_is_a_letter_that_can_be_replayed_later() -> None:
    source = source_of()
    decoded = from_json(source, '{"id": "a", "ts": "9999-12-31T23:59:59.999999Z"}')
    verdict = judge(decoded.rows, parse_timestamp("2026-01-01"), Memory(WITHIN), source)
    (letter,) = to_letters(verdict.letters)
    assert from_json(source, letter.payload).rows.equals(decoded.rows)


def test_without_an_event_id_nothing_is_a_duplicate() -> None:
    rows = rows_of([Event("a", 1, 0), Event("a", 1, 0), Event("a", 99, 0)])
    memory = Memory(WITHIN)
    verdict = judge(rows, 50, memory, source_of(event_id=None))
    memory.remember(verdict)
    assert verdict.accepted.tolist() == [True, True, False]
    assert (verdict.duplicates, len(memory)) == (0, 0)


@pytest.mark.parametrize(
    ("id_type", "one", "other"),
    [("int64", 1, 2), ("timestamp", 1, 2), ("date", 1, 2), ("decimal(18,2)", Decimal("1.50"), Decimal(2))],
)
def test_ids_may_be_of_any_scalar_type(id_type: str, one: Any, other: Any) -> None:
    source = source_of(id_type)
    ids = pa.array([one, other, one], arrow_type(source.columns["id"]))
    rows = rows_of([Event("", moment, 0) for moment in (1, 2, 3)]).set_column(0, "id", ids)
    memory = Memory(WITHIN)
    verdict = judge(rows, 10, memory, source)
    assert verdict.accepted.tolist() == [True, True, False]
    memory.remember(verdict)
    assert judge(rows, 10, memory, source).duplicates == 3
    rebuilt = Memory.of_log(rows.slice(0, 2), source)
    assert judge(rows, 10, rebuilt, source).duplicates == 3


def test_an_empty_batch_has_an_empty_verdict() -> None:
    verdict = judge(rows_of([]), 0, Memory(WITHIN), source_of())
    assert (verdict.accepted.size, verdict.letters.num_rows, verdict.duplicates) == (0, 0, 0)
    assert len(Memory.of_log(rows_of([]).select(["ts", "id"]), source_of())) == 0

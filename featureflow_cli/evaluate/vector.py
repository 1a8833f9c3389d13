"""Feature vectors online: what is held of the entities, evaluated at the moment of reading (design.md 1.4).

`as_of` is per row: the clock, raised to one microsecond past the newest event among the states that the row
reads. An `as_of` asked for is exact: where it is not past those events it is refused, never approximated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codec import Ends, decode
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.entities import entity_id
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.partials import REASONS
from featureflow_cli.compute.reading import Read, read
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.state import NEVER_US, States
from featureflow_cli.compute.views import OnDemand, Service, ServiceView, View
from featureflow_cli.errors import StoreUnavailable, UsageError
from featureflow_cli.evaluate.asking import Row, expected_of, typed_row
from featureflow_cli.evaluate.populations import Populations
from featureflow_cli.online.store import Held, OnlineStore
from featureflow_cli.plan.applied import Build
from featureflow_cli.spec.types import Value
from featureflow_cli.times import format_timestamp

Serving = Mapping[str, tuple[View, Build]]


@dataclass(frozen=True)
class Vector:
    """One row's answer. `features` by output name; the other mappings by the view's alias.

    `status` is present, expired (an older event is still remembered) or unknown; `age_us` is `as_of` less the
    view's newest event; `reasons` only for features that are null for a reason of their own.
    """

    features: dict[str, Value]
    status: dict[str, str]
    reasons: dict[str, str]
    age_us: dict[str, int]
    as_of_us: int


@dataclass(frozen=True)
class Taken:
    """What the store held of some rows: their states by the view's alias, and what events are in them."""

    states: dict[str, States]
    ends: dict[str, Ends]


class Reader:
    """Reads vectors of one service: its views as they are served now, and its compiled on-demand features.

    StoreUnavailable where a view's state is not built yet. `store_seconds` is told what each read of states took.
    """

    def __init__(
        self,
        store: OnlineStore,
        service: Service,
        serving: Serving,
        store_seconds: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        unbuilt = [member.view.name for member in service.views if member.view.name not in serving]
        if unbuilt:
            message = f"the online state of {', '.join(sorted(set(unbuilt)))} is not built yet"
            raise StoreUnavailable(message, hint="run: featureflow stream")
        self._store = store
        self._store_seconds = store_seconds
        self.service = replace(
            service, views=tuple(replace(each, view=serving[each.view.name][0]) for each in service.views)
        )
        self._fields = {each.alias: serving[each.view.name][1].field for each in service.views}
        self._built_us = {each.alias: serving[each.view.name][1].created_us for each in service.views}
        self._on_demand = [(feature, compile_row(feature.expr)) for feature in service.on_demand]
        self._names = {each.alias: service.needed(each) for each in self.service.views}
        self.expected = expected_of(self.service)

    def typed(self, row: Row) -> dict[str, Value]:
        """Join keys and request columns in their types; NotFound or UsageError names what is off (`at`)."""
        return typed_row(self.expected, row)

    def read(
        self, rows: Sequence[Row], now_us: int, *, as_of_us: int | None = None, request: Row | None = None
    ) -> list[Vector]:
        """One vector per row, in order; `rows` hold the join keys, and request columns where `request` does not."""
        asked = [self.typed({**(request or {}), **row}) for row in rows]
        return self.answer(asked, self.take(asked), now_us, as_of_us=as_of_us)

    def take(self, rows: Sequence[Mapping[str, Value]]) -> Taken:
        """What the store holds of typed rows; views of one entity and the same keys come from one read."""
        together: dict[tuple[str, tuple[str, ...]], list[ServiceView]] = {}
        for each in self.service.views:
            columns = tuple(each.join_keys.get(key.name, key.name) for key in each.view.join_keys)
            together.setdefault((each.view.entity, columns), []).append(each)
        states: dict[str, States] = {}
        ends: dict[str, Ends] = {}
        for (entity, columns), members in together.items():
            keys = [tuple(row[column] for column in columns) for row in rows]
            ids = [None if None in key else entity_id(key) for key in keys]
            asked = list(dict.fromkeys(id for id in ids if id is not None))
            fields = [self._fields[each.alias] for each in members]
            held = self._held(entity, asked, fields)
            for place, each in enumerate(members):
                absent = next((id for id in asked if held[id].blobs[place] is None), None)
                if absent is not None:
                    self._require_built(each, absent)
                blobs = [None if id is None else held[id].blobs[place] for id in ids]
                states[each.alias], ends[each.alias] = decode(each.view, packed(blobs))
        return Taken(states, ends)

    def _held(self, entity: str, ids: list[str], fields: list[str]) -> dict[str, Held]:
        if not ids:
            return {}
        started = perf_counter()
        held = self._store.read(entity, ids, fields)
        self._store_seconds(perf_counter() - started)
        return dict(zip(ids, held, strict=True))

    def _require_built(self, member: ServiceView, id: str) -> None:
        """That nothing is held of an entity says only something where the view's states are all there."""
        shard = self._store.shard_of(member.view.entity, id)
        if self._store.marker(shard, self._fields[member.alias]) is None:
            message = f"the online store has lost the state of {member.view.name}"
            raise StoreUnavailable(message, hint="`featureflow stream` builds it again from the offline log")

    def answer(
        self,
        rows: Sequence[Mapping[str, Value]],
        taken: Taken,
        now_us: int,
        *,
        as_of_us: int | None = None,
    ) -> list[Vector]:
        """One vector per typed row, from what was taken for these rows."""
        if not rows:
            return []
        states = taken.states
        newest = np.maximum.reduce([held.newest_us for held in states.values()])
        moments = self._moments(newest, now_us, as_of_us)
        if as_of_us is not None:
            self._refuse_forgotten(states, now_us, as_of_us)
        reads = {
            each.alias: read(
                each.view,
                states[each.alias],
                moments,
                Populations(self._store, each.view, self._fields[each.alias], now_us, as_of_us is not None),
                self._names[each.alias],
            )
            for each in self.service.views
        }
        return self._vectors(rows, reads, moments)

    def _moments(self, newest_us: Ints, now_us: int, as_of_us: int | None) -> Ints:
        if as_of_us is None:
            return np.maximum(newest_us + 1, now_us)
        latest = int(newest_us.max())
        if as_of_us <= latest:
            message = f"as_of is not after the newest event held ({format_timestamp(latest)})"
            raise UsageError(message, hint="`featureflow get --at` answers for the past", at="as_of")
        ahead_us = max(each.view.source.allowed_future_us for each in self.service.views)
        if as_of_us > now_us + ahead_us:
            message = (
                f"as_of is more than {ahead_us / 1e6:g} s ahead of the clock ({format_timestamp(now_us)})"
            )
            raise UsageError(message, hint="leave as_of out to ask for now", at="as_of")
        return np.full(len(newest_us), as_of_us, np.int64)

    def _refuse_forgotten(self, states: Mapping[str, States], now_us: int, as_of_us: int) -> None:
        """UsageError where a state that is not held may have been there at `as_of_us`, and gone by its ttl since."""
        for each in self.service.views:
            ttl_us, ahead_us = each.view.ttl_us, each.view.source.allowed_future_us
            if (
                ttl_us is None
                or as_of_us >= now_us - ahead_us
                or now_us < self._built_us[each.alias] + ttl_us
            ):
                continue
            if (states[each.alias].newest_us == NEVER_US).any():
                message = f"what '{each.alias}' was at as_of is not held any more, where it has expired since"
                raise UsageError(message, hint="`featureflow get --at` answers for the past", at="as_of")

    def _vectors(
        self, rows: Sequence[Mapping[str, Value]], reads: Mapping[str, Read], moments: Ints
    ) -> list[Vector]:
        """The columns of the views' answers turned into rows, on-demand features computed for each."""
        outputs: dict[str, list[Value]] = {}
        readable: dict[str, list[Value]] = {}
        reasons: list[tuple[str, Ints]] = []
        for each in self.service.views:
            is_read = self.service.is_read(each)
            for name, answer in reads[each.alias].answers.items():
                column = values_of(answer.values)
                if is_read:
                    readable[f"{each.view.name}.{name}"] = column
                if name in each.features:
                    outputs[f"{each.alias}__{name}"] = column
                    if answer.reason is not None and answer.reason.any():
                        reasons.append((f"{each.alias}__{name}", answer.reason))
        known = {alias: _statuses(found, moments) for alias, found in reads.items()}
        vectors = []
        for place, (row, as_of) in enumerate(zip(rows, moments.tolist(), strict=True)):
            features = {name: column[place] for name, column in outputs.items()}
            if self._on_demand:
                seen = {**row, "as_of": as_of, **{name: column[place] for name, column in readable.items()}}
                for feature, evaluate in self._on_demand:
                    features[feature.name] = on_demand_value(feature, evaluate, seen)
            status = {alias: texts[place] for alias, (texts, _) in known.items()}
            ages = {alias: age for alias, (_, each) in known.items() if (age := each[place]) is not None}
            why = {name: REASONS[int(reason[place])] for name, reason in reasons if reason[place]}
            vectors.append(Vector(features, status, why, ages, as_of))
        return vectors


def _statuses(found: Read, moments: Ints) -> tuple[list[str], list[int | None]]:
    """(status, age in microseconds or None) of each row of one view."""
    newest, present = found.newest_us.tolist(), found.present.tolist()
    texts = [
        "unknown" if at == NEVER_US else "present" if here else "expired"
        for at, here in zip(newest, present, strict=True)
    ]
    ages = [None if at == NEVER_US else t - at for at, t in zip(newest, moments.tolist(), strict=True)]
    return texts, ages


def on_demand_value(
    feature: OnDemand, evaluate: Callable[[Mapping[str, Value]], Value], readable: Mapping[str, Value]
) -> Value:
    value = evaluate(readable)
    return feature.default if value is None else value


def values_of(column: Any) -> list[Value]:
    """An Arrow column as `spec.types.Value`s: moments as integers, lists as tuples."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_date(kind):
        return column.cast(pa.int32()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_list(kind):
        inner = values_of(column.values)
        offsets = column.offsets.to_pylist()
        return [
            tuple(inner[low:high]) if held else None
            for low, high, held in zip(offsets[:-1], offsets[1:], column.is_valid().to_pylist(), strict=True)
        ]
    return column.to_pylist()  # type: ignore[no-any-return]

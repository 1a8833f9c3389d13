"""Feature vectors online: what is held of the entities, evaluated at the moment of reading (design.md 1.4).

`as_of` is per row: the clock, raised to one microsecond past the newest event among the states that the row
reads. An `as_of` asked for is exact: where it is not past those events it is refused, never approximated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from featureflow_cli.compute.codec import decode
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.entities import entity_id
from featureflow_cli.compute.partials import REASONS
from featureflow_cli.compute.reading import Read, read
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.state import NEVER_US, States
from featureflow_cli.compute.views import OnDemand, Service, ServiceView, View
from featureflow_cli.errors import NotFound, StoreUnavailable, UsageError, did_you_mean
from featureflow_cli.evaluate.populations import Populations
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.plan.applied import Build
from featureflow_cli.spec.types import ColumnType, Value
from featureflow_cli.times import format_timestamp, parse_timestamp

Row = Mapping[str, object]
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


class Reader:
    """Reads vectors of one service: its views as they are served now, and its compiled on-demand features.

    StoreUnavailable where a view's state is not built yet.
    """

    def __init__(self, store: OnlineStore, service: Service, serving: Serving) -> None:
        unbuilt = [member.view.name for member in service.views if member.view.name not in serving]
        if unbuilt:
            message = f"the online state of {', '.join(sorted(set(unbuilt)))} is not built yet"
            raise StoreUnavailable(message, hint="run: featureflow stream")
        self._store = store
        self.service = replace(
            service, views=tuple(replace(each, view=serving[each.view.name][0]) for each in service.views)
        )
        self._fields = {each.alias: serving[each.view.name][1].field for each in service.views}
        self._on_demand = [(feature, compile_row(feature.expr)) for feature in service.on_demand]
        self._names = {each.alias: service.needed(each) for each in self.service.views}

    def read(
        self, rows: Sequence[Row], now_us: int, *, as_of_us: int | None = None, request: Row | None = None
    ) -> list[Vector]:
        """One vector per row, in order; `rows` hold the join keys, and request columns where `request` does not."""
        if not rows:
            return []
        asked = [typed_row(self.service, {**(request or {}), **row}) for row in rows]
        states = self._states(asked)
        newest = np.maximum.reduce([held.newest_us for held in states.values()])
        moments = self._moments(newest, now_us, as_of_us)
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
        return self._vectors(asked, reads, moments)

    def _states(self, rows: Sequence[Mapping[str, Value]]) -> dict[str, States]:
        """Each view's states, one a row; views of one entity and the same keys come from one read."""
        together: dict[tuple[str, tuple[str, ...]], list[ServiceView]] = {}
        for each in self.service.views:
            columns = tuple(each.join_keys.get(key.name, key.name) for key in each.view.join_keys)
            together.setdefault((each.view.entity, columns), []).append(each)
        states: dict[str, States] = {}
        for (entity, columns), members in together.items():
            keys = [tuple(row[column] for column in columns) for row in rows]
            ids = [None if None in key else entity_id(key) for key in keys]
            asked = list(dict.fromkeys(id for id in ids if id is not None))
            fields = [self._fields[each.alias] for each in members]
            held = dict(zip(asked, self._store.read(entity, asked, fields), strict=True)) if asked else {}
            for place, each in enumerate(members):
                blobs = [None if id is None else held[id].blobs[place] for id in ids]
                states[each.alias], _ = decode(each.view, blobs)
        return states

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

    def _vectors(
        self, rows: Sequence[Mapping[str, Value]], reads: Mapping[str, Read], moments: Ints
    ) -> list[Vector]:
        columns = {
            (each.alias, name): values_of(answer.values)
            for each in self.service.views
            for name, answer in reads[each.alias].answers.items()
        }
        vectors = []
        for place, (row, as_of) in enumerate(zip(rows, moments.tolist(), strict=True)):
            features: dict[str, Value] = {}
            status, reasons, ages = {}, {}, {}
            readable: dict[str, Value] = {**row, "as_of": as_of}
            for each in self.service.views:
                found = reads[each.alias]
                status[each.alias], age = status_of(found, place, as_of)
                if age is not None:
                    ages[each.alias] = age
                for name, answer in found.answers.items():
                    value = columns[each.alias, name][place]
                    readable[f"{each.view.name}.{name}"] = value
                    if name in each.features:
                        features[f"{each.alias}__{name}"] = value
                        if answer.reason is not None and answer.reason[place]:
                            reasons[f"{each.alias}__{name}"] = REASONS[int(answer.reason[place])]
            for feature, evaluate in self._on_demand:
                features[feature.name] = on_demand_value(feature, evaluate, readable)
            vectors.append(Vector(features, status, reasons, ages, as_of))
        return vectors


def status_of(found: Read, place: int, as_of_us: int) -> tuple[str, int | None]:
    """(status, age in microseconds or None) of one row of one view."""
    newest = int(found.newest_us[place])
    if newest == NEVER_US:
        return "unknown", None
    return "present" if found.present[place] else "expired", as_of_us - newest


def on_demand_value(
    feature: OnDemand, evaluate: Callable[[Mapping[str, Value]], Value], readable: Mapping[str, Value]
) -> Value:
    value = evaluate(readable)
    return feature.default if value is None else value


def values_of(column: Any) -> list[Value]:
    """An Arrow column as `spec.types.Value`s: moments as integers, lists as tuples."""
    import pyarrow as pa

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


def typed_row(service: Service, row: Row) -> dict[str, Value]:
    """The join keys and request columns of `row` in their types; NotFound or UsageError names what is off."""
    expected: dict[str, ColumnType] = {}
    for each in service.views:
        for key in each.view.join_keys:
            expected[each.join_keys.get(key.name, key.name)] = key.type
    keys = frozenset(expected)
    for feature in service.on_demand:
        expected |= feature.request
    for name in row:
        if name not in expected:
            message = f"unknown join key or request column '{name}'"
            raise UnknownKey(
                message, hint=did_you_mean(name, expected) or f"expected: {', '.join(expected)}", at=name
            )
    missing = [name for name in expected if name not in row]
    if missing:
        kind = "join key" if missing[0] in keys else "request column"
        message = f"missing {kind} '{missing[0]}'"
        raise UsageError(message, hint=f"expected: {', '.join(expected)}", at=missing[0])
    return {name: typed_value(row[name], column_type, name) for name, column_type in expected.items()}


class UnknownKey(NotFound):
    code = "unknown_join_key"


def typed_value(written: object, column_type: ColumnType, at: str) -> Value:
    """A JSON or command-line value as `column_type`; UsageError where it does not fit."""
    if written is None:
        return None
    text = written if isinstance(written, str) else str(written)
    try:
        if isinstance(written, bool) != (column_type.name == "bool") and not isinstance(written, str):
            raise ValueError(text)
        if column_type.name == "int64":
            number = int(Decimal(text))
            if number != Decimal(text) or not -(2**63) <= number < 2**63:
                raise ValueError(text)
            return number
        if column_type.name == "double":
            return float(text)
        if column_type.name == "decimal":
            exact = Decimal(text).quantize(Decimal(1).scaleb(-column_type.scale))
            if exact != Decimal(text):
                raise ValueError(text)
            return exact
        if column_type.name == "bool":
            return {"true": True, "false": False}[text.lower()]
        if column_type.name == "timestamp":
            return parse_timestamp(text)
        if column_type.name == "string" and not isinstance(written, dict | list):
            return text
    except (ValueError, ArithmeticError, KeyError):
        pass
    message = f"'{at}' is {column_type}: {text[:80]!r} does not fit"
    raise UsageError(message, at=at)

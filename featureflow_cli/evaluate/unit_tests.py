"""The YAML's unit tests, run through every way of evaluating a feature: all must give what is expected.

A case is the events of the sources that a service reads, its keys and one moment. An evaluator is a function of
it; adding one is adding a line to EVALUATORS.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute import reference
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.selecting import select
from featureflow_cli.compute.views import Repo, Service
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import DefinitionError, Problem, UsageError
from featureflow_cli.evaluate.asking import expected_of, typed_row
from featureflow_cli.evaluate.bootstrap import bootstrap
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.evaluate.rows import Rows, rows_at
from featureflow_cli.evaluate.sql_rows import rows_by_sql
from featureflow_cli.evaluate.vector import Reader, on_demand_value, values_of
from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.plan.applied import Build
from featureflow_cli.sources.decode import decode_json
from featureflow_cli.sources.literals import Misfit, fit_json, read_json
from featureflow_cli.spec.models import UnitTest
from featureflow_cli.spec.types import ColumnType, Value, arrow_type
from featureflow_cli.times import parse_timestamp

TOLERANCE = 1e-9
"""Doubles agree within this, relative (design.md 1.9)."""


@dataclass(frozen=True)
class Case:
    """`events`: by source, its columns in their types; `row`: join keys and request columns in theirs.

    `moment_us` is `at`'s timestamp. `expected` is by output name (`view__feature`), in the output's type.
    """

    name: str
    service: Service
    events: Mapping[str, pa.Table]
    row: Mapping[str, Value]
    moment_us: int
    expected: Mapping[str, Value]


@dataclass(frozen=True)
class Mismatch:
    feature: str
    evaluator: str
    expected: Value
    actual: Value


@dataclass(frozen=True)
class Outcome:
    """One test: passed where nothing mismatches."""

    name: str
    mismatches: tuple[Mismatch, ...]


Evaluator = Callable[[Engine, Case], Mapping[str, Value]]


def run(engine: Engine, repo: Repo, tests: Sequence[UnitTest]) -> list[Outcome]:
    """Every test through every evaluator, in the order written. DefinitionError where a given row is refused."""
    return [_outcome(engine, case_of(repo, test)) for test in tests]


def _outcome(engine: Engine, case: Case) -> Outcome:
    types = dict(case.service.outputs)
    mismatches = []
    for evaluator, evaluate in EVALUATORS:
        actual = evaluate(engine, case)
        mismatches += [
            Mismatch(name, evaluator, expected, actual[name])
            for name, expected in case.expected.items()
            if not is_same(expected, actual[name], types[name])
        ]
    return Outcome(
        case.name, tuple(sorted(mismatches, key=lambda found: list(case.expected).index(found.feature)))
    )


def by_reference(_: Engine, case: Case) -> Mapping[str, Value]:
    """The definition: brute force over a list of events."""
    found: dict[str, Value] = {}
    readable: dict[str, Value] = {**case.row, "as_of": case.moment_us}
    for member in case.service.views:
        view = member.view
        columns = {
            name: values_of(column.combine_chunks()) for name, column in _columns(case, view.source.name)
        }
        events = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        key = tuple(case.row[member.join_keys.get(each.name, each.name)] for each in view.join_keys)
        values = reference.answer(view, events, key, case.moment_us).values
        found |= {f"{member.alias}__{name}": value for name, value in values.items()}
        if case.service.is_read(member):
            readable |= {f"{view.name}.{name}": value for name, value in values.items()}
    for feature in case.service.on_demand:
        found[feature.name] = on_demand_value(feature, compile_row(feature.expr), readable)
    return found


def by_state(engine: Engine, case: Case) -> Mapping[str, Value]:
    """The online path: states of the events before the moment, kept in a store, read from their blobs."""
    with TemporaryDirectory(prefix="featureflow-test-") as folder:
        store = SqliteStore(Path(folder) / "online.db", "test", lambda: case.moment_us)
        serving = {}
        for number, view in enumerate({each.view.name: each.view for each in case.service.views}.values()):
            build = Build(number, view.name, view.entity, view.fingerprint, 1, "serving", {0: 1}, 0)
            timestamp = view.source.timestamp_field.replace('"', '""')
            engine.register("given", case.events[view.source.name])
            past = f"""(SELECT * FROM given WHERE epoch_us("{timestamp}") < {case.moment_us})"""
            bootstrap(engine, past, Kept(view, build), store, lambda: case.moment_us)
            engine.unregister("given")
            serving[view.name] = (view, build)
        reader = Reader(store, case.service, serving)
        (vector,) = reader.read([dict(case.row)], case.moment_us, as_of_us=case.moment_us)
        store.close()
    return vector.features


def by_dataset(engine: Engine, case: Case) -> Mapping[str, Value]:
    """The training path: one label row, joined point in time."""
    return _joined(engine, case, rows_at)


def by_sql(engine: Engine, case: Case) -> Mapping[str, Value]:
    """The plain SQL that `build-dataset --show-sql` prints."""
    return _joined(engine, case, rows_by_sql)


def _joined(
    engine: Engine, case: Case, evaluate: Callable[[Engine, Service, dict[str, str], pa.Table, Ints], Rows]
) -> Mapping[str, Value]:
    relations = {}
    for number, (source, rows) in enumerate(case.events.items()):
        relations[source] = f"given_{number}"
        engine.register(relations[source], rows)
    labels = pa.table(
        {name: pa.array([value], arrow_type(kind)) for (name, kind), value in _typed(case)},
    )
    found = evaluate(engine, case.service, relations, labels, np.array([case.moment_us], np.int64))
    for relation in relations.values():
        engine.unregister(relation)
    return {name: values_of(column)[0] for name, column in found.columns.items()}


EVALUATORS: tuple[tuple[str, Evaluator], ...] = (
    ("reference", by_reference),
    ("state", by_state),
    ("dataset", by_dataset),
    ("sql", by_sql),
)


def case_of(repo: Repo, test: UnitTest) -> Case:
    """The test in the types of what it tests; DefinitionError where something in it does not fit."""
    if test.service is not None:
        service = repo.services[test.service]
        expected = dict(test.expect)
    else:
        service = select(repo, [f"{test.view}:*"])
        expected = {f"{test.view}__{name}": value for name, value in test.expect.items()}
    sources = {member.view.source.name: member.view.source for member in service.views}
    given = test.given if isinstance(test.given, dict) else {next(iter(sources)): test.given}
    types = dict(service.outputs)
    keys = {name: value for name, value in test.at.items() if name != "timestamp"}
    try:
        row = typed_row(expected_of(service), {**keys, **test.request})
    except UsageError as err:
        raise DefinitionError([Problem(at=f"unit test '{test.name}'", what=err.what, hint=err.hint)]) from err
    return Case(
        test.name,
        service,
        {name: _events(repo, name, given.get(name, []), test) for name in sources},
        row,
        parse_timestamp(str(test.at["timestamp"])),
        {name: _fitting(value, types[name], f"expect.{name}", test) for name, value in expected.items()},
    )


def is_same(expected: Value, actual: Value, column_type: ColumnType) -> bool:
    """Doubles within TOLERANCE, also inside of lists; all else equal, null only to null."""
    if expected is None or actual is None:
        return expected is actual
    if column_type.element is not None:
        assert isinstance(expected, tuple)
        assert isinstance(actual, tuple)
        element = column_type.element
        return len(expected) == len(actual) and all(
            is_same(one, other, element) for one, other in zip(expected, actual, strict=True)
        )
    if isinstance(expected, float) and isinstance(actual, float):
        return abs(expected - actual) <= TOLERANCE * max(abs(expected), abs(actual))
    return expected == actual


def _events(repo: Repo, name: str, rows: Sequence[Mapping[str, Any]], test: UnitTest) -> pa.Table:
    """The given rows, decoded as the source decodes JSON; a column that a row leaves out is null.

    Rows name columns, not paths, and may leave out what the test is not about: `not null` is not asked of them.
    """
    source = repo.sources[name]
    relaxed = replace(
        source,
        paths={column: (column,) for column in source.columns},
        not_null=frozenset({source.timestamp_field}),
    )
    messages = [json.dumps(dict(row), default=str).encode() for row in rows]
    decoded = decode_json(messages, np.arange(len(messages), dtype=np.int64), relaxed)
    if decoded.letters.num_rows:
        raise DefinitionError(
            [
                Problem(at=f"unit test '{test.name}': given[{letter['offset']}]", what=letter["detail"])
                for letter in decoded.letters.to_pylist()
            ]
        )
    return decoded.rows.select(list(source.columns))


def _columns(case: Case, source: str) -> list[tuple[str, Any]]:
    table = case.events[source]
    return list(zip(table.column_names, table.columns, strict=True))


def _typed(case: Case) -> list[tuple[tuple[str, ColumnType], Value]]:
    """((name, type), value) of every join key and request column."""
    types: dict[str, ColumnType] = {}
    for member in case.service.views:
        types |= {member.join_keys.get(key.name, key.name): key.type for key in member.view.join_keys}
    for feature in case.service.on_demand:
        types |= feature.request
    return [((name, types[name]), value) for name, value in case.row.items()]


def _fitting(written: Any, column_type: ColumnType, at: str, test: UnitTest) -> Value:
    """An expected value in the feature's type."""
    try:
        return fit_json(read_json(json.dumps(written, default=str)), column_type)
    except Misfit as err:
        what = f"{json.dumps(written, default=str)} is no {column_type}"
        raise DefinitionError([Problem(at=f"unit test '{test.name}': {at}", what=what)]) from err

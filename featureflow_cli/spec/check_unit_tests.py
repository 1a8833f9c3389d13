"""Checks of unit tests: that they name what exists, so that a misspelt column never passes for a null."""

from collections.abc import Mapping
from typing import Any

from featureflow_cli.spec.check_services import Members
from featureflow_cli.spec.models import FeatureService, UnitTest, ViewReference
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.scope import Scope, nearest
from featureflow_cli.spec.types import ColumnType
from featureflow_cli.times import parse_timestamp


def check_unit_test(scope: Scope, path: Path, test: UnitTest) -> None:
    if test.view is not None:
        _of_view(scope, path, test, test.view)
    elif test.service is not None:
        _of_service(scope, path, test, test.service)


def _of_view(scope: Scope, path: Path, test: UnitTest, name: str) -> None:
    view = scope.find("feature_views", scope.views, name, (*path, "view"))
    if view is None:
        return
    _given(scope, path, test, [view.source])
    if test.request:
        scope.report((*path, "request"), "a view takes nothing from a request", "remove it", key=True)
    entity = scope.entities.get(view.entity)
    if entity is not None:
        _at(scope, path, test, dict(entity.join_keys))
    _expect(scope, path, test, f"view '{name}'", list(scope.outputs.get(name, {})))


def _of_service(scope: Scope, path: Path, test: UnitTest, name: str) -> None:
    service = scope.find("feature_services", scope.services, name, (*path, "service"))
    if service is None:
        return
    members = _members(scope, service)
    sources = list(dict.fromkeys(view.source for view, _ in members.views.values()))
    _given(scope, path, test, sources)
    if not members.is_whole:
        return
    request = {key: kind for _, feature in members.on_demand for key, kind in feature.request.items()}
    for key in test.request:
        if key not in request:
            what = f"no on-demand feature of service '{name}' has a request column '{key}'"
            scope.report((*path, "request", key), what, nearest(key, request), key=True)
    keys: dict[str, ColumnType] = {}
    for view, join_keys in members.views.values():
        entity = scope.entities.get(view.entity)
        for key, kind in (entity.join_keys if entity is not None else {}).items():
            keys[join_keys.get(key, key)] = kind
    _at(scope, path, test, keys)
    _expect(scope, path, test, f"service '{name}'", list(members.outputs))


def _members(scope: Scope, service: FeatureService) -> Members:
    """What the service asks for; what is wrong with it was reported where the service stands."""
    quiet = Scope(scope.config, scope.definitions, scope.positions, scope.broken)
    quiet.outputs, quiet.on_demand_types = scope.outputs, scope.on_demand_types
    quiet.on_demand_views = scope.on_demand_views
    members = Members(quiet)
    for reference in service.features:
        if isinstance(reference, ViewReference):
            members.add_view_reference((), reference)
        else:
            members.add((), reference)
    return members


def _given(scope: Scope, path: Path, test: UnitTest, sources: list[str]) -> None:
    """Rows of the one source that the view or service reads, or rows by source."""
    here = (*path, "given")
    if isinstance(test.given, Mapping):
        for name, rows in test.given.items():
            if scope.find("sources", scope.sources, name, (*here, name), key=True) is not None:
                _rows(scope, (*here, name), rows, name)
    elif len(sources) > 1:
        what = f"rows of which source? This service reads {', '.join(sources)}"
        scope.report(here, what, "write given: {SOURCE: [rows]}", key=True)
    elif sources and sources[0] in scope.sources:
        _rows(scope, here, test.given, sources[0])


def _rows(scope: Scope, path: Path, rows: list[dict[str, Any]], name: str) -> None:
    source = scope.sources[name]
    for index, row in enumerate(rows):
        for column in row:
            scope.column(source, column, (*path, index, column), key=True)
        if row.get(source.timestamp_field) is None and source.timestamp_field in source.columns:
            scope.report(
                (*path, index), f"this row has no '{source.timestamp_field}'", "every event has its time"
            )


def _at(scope: Scope, path: Path, test: UnitTest, keys: Mapping[str, ColumnType]) -> None:
    """The join keys and the moment."""
    here = (*path, "at")
    for name in test.at:
        if name not in keys and name != "timestamp":
            what = f"'{name}' is neither a join key nor `timestamp`"
            scope.report((*here, name), what, nearest(name, [*keys, "timestamp"]), key=True)
    for name in (*keys, "timestamp"):
        if name not in test.at:
            scope.report(here, f"`at` needs '{name}'", key=True)
    moment = test.at.get("timestamp")
    if moment is not None:
        try:
            parse_timestamp(str(moment))
        except ValueError as err:
            scope.report((*here, "timestamp"), str(err), "write 2026-01-01T10:00:00Z")


def _expect(scope: Scope, path: Path, test: UnitTest, of: str, known: list[str]) -> None:
    here = (*path, "expect")
    if not test.expect:
        scope.report(here, "a test that expects nothing cannot fail", f"name a feature of {of}", key=True)
    for name in test.expect:
        if name not in known:
            scope.report((*here, name), f"{of} has no feature '{name}'", nearest(name, known), key=True)

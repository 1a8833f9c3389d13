"""What needs more than one object to be checked: here the order and the names, in `check_*.py` the rest."""

from collections.abc import Iterable
from typing import Any

from featureflow_cli.errors import Problem
from featureflow_cli.spec.check_services import check_on_demand, check_service
from featureflow_cli.spec.check_sources import check_config, check_entity, check_source
from featureflow_cli.spec.check_unit_tests import check_unit_test
from featureflow_cli.spec.check_views import check_view
from featureflow_cli.spec.models import Definitions, StoreConfig
from featureflow_cli.spec.places import Path, Positions
from featureflow_cli.spec.scope import NOUNS, Scope


def check(
    config: StoreConfig,
    definitions: Definitions,
    positions: Positions,
    broken: frozenset[tuple[str, str]] = frozenset(),
) -> list[Problem]:
    """Every problem across objects; `broken` names (kind, name) what was written but could not be read."""
    scope = Scope(config, definitions, positions, broken)
    check_config(scope)
    for kind, noun in NOUNS.items():
        objects: tuple[Any, ...] = getattr(definitions, kind)
        check_names(scope, noun, (((kind, index, "name"), each.name) for index, each in enumerate(objects)))
    for index, entity in enumerate(definitions.entities):
        check_entity(scope, ("entities", index), entity)
    for index, source in enumerate(definitions.sources):
        check_source(scope, ("sources", index), source)
    for index, view in enumerate(definitions.feature_views):
        check_view(scope, ("feature_views", index), view)
    for index, feature in enumerate(definitions.on_demand_features):
        check_on_demand(scope, ("on_demand_features", index), feature)
    for index, service in enumerate(definitions.feature_services):
        check_service(scope, ("feature_services", index), service)
    for index, test in enumerate(definitions.unit_tests):
        check_unit_test(scope, ("unit_tests", index), test)
    return scope.problems


def check_names(scope: Scope, noun: str, named: Iterable[tuple[Path, str]]) -> None:
    """Two of one kind may not share a name, nor differ in its case only (SQL would take them for one)."""
    first: dict[str, tuple[Path, str]] = {}
    for path, name in named:
        earlier_path, earlier = first.setdefault(name.casefold(), (path, name))
        if earlier_path == path:
            continue
        hint = f"the first one is at {scope.positions.at(earlier_path)}"
        if earlier == name:
            scope.report(path, f"there are two {_plural(noun)} named '{name}'", hint)
        else:
            scope.report(path, f"{_plural(noun)} '{earlier}' and '{name}' differ in case only", hint)


def _plural(noun: str) -> str:
    return "entities" if noun == "entity" else f"{noun}s"

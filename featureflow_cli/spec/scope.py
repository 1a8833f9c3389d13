"""What the checks share: the definitions by name, what was found so far, and how it is reported."""

import re
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from featureflow_cli.errors import Problem, did_you_mean
from featureflow_cli.spec.expressions import Expr, ExpressionError, parse
from featureflow_cli.spec.models import (
    Definitions,
    Entity,
    FeatureService,
    FeatureView,
    OnDemandFeature,
    Source,
    StoreConfig,
)
from featureflow_cli.spec.places import Path, Positions
from featureflow_cli.spec.results import described
from featureflow_cli.spec.types import ColumnType

Outputs = Mapping[str, ColumnType | None]
"""A view's features by name; the type is None where something is wrong with it, which was reported."""

NOUNS = {
    "entities": "entity",
    "sources": "source",
    "feature_views": "feature view",
    "on_demand_features": "on-demand feature",
    "feature_services": "feature service",
    "unit_tests": "unit test",
}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


class Scope:
    """One run of the checks. `outputs` fills up as the views are checked."""

    def __init__(
        self,
        config: StoreConfig,
        definitions: Definitions,
        positions: Positions,
        broken: frozenset[tuple[str, str]],
    ) -> None:
        self.config = config
        self.definitions = definitions
        self.positions = positions
        self.broken = broken
        self.problems: list[Problem] = []
        self.entities: Mapping[str, Entity] = _by_name(definitions.entities)
        self.sources: Mapping[str, Source] = _by_name(definitions.sources)
        self.views: Mapping[str, FeatureView] = _by_name(definitions.feature_views)
        self.on_demand: Mapping[str, OnDemandFeature] = _by_name(definitions.on_demand_features)
        self.services: Mapping[str, FeatureService] = _by_name(definitions.feature_services)
        self.outputs: dict[str, Outputs] = {}
        self.on_demand_types: dict[str, ColumnType | None] = {}
        self.on_demand_views: dict[str, tuple[str, ...]] = {}

    def report(
        self, path: Path, what: str, hint: str = "", *, offset: int | None = None, key: bool = False
    ) -> None:
        self.problems.append(self.positions.problem(path, what, hint, offset=offset, key=key))

    def is_broken(self, kind: str, name: str) -> bool:
        """Whether it was written, but could not be read: then nothing is said about references to it."""
        return (kind, name) in self.broken

    def find(
        self, kind: str, known: Mapping[str, N], name: str, path: Path, *, key: bool = False
    ) -> N | None:
        """The object of that name, or None; an unknown one is reported at `path`."""
        found = known.get(name)
        if found is None and not self.is_broken(kind, name):
            self.report(path, f"there is no {NOUNS[kind]} '{name}'", nearest(name, known), key=key)
        return found

    def column(self, source: Source, name: str, path: Path, *, key: bool = False) -> ColumnType | None:
        """The type of a source's column, or None; an unknown one is reported at `path`."""
        column = source.columns.get(name)
        if column is None:
            self.report(
                path, f"source '{source.name}' has no column '{name}'", nearest(name, source.columns), key=key
            )
            return None
        return column.type

    def expression(self, path: Path, text: str, schema: Mapping[str, ColumnType]) -> Expr | None:
        """The checked expression, or None; what is wrong is reported at its very character."""
        try:
            return parse(text, schema)
        except ExpressionError as err:
            self.report(path, err.what, err.hint, offset=err.offset)
            return None

    def condition(self, path: Path, text: str | None, schema: Mapping[str, ColumnType]) -> None:
        """An expression that must be a bool."""
        expr = None if text is None else self.expression(path, text, schema)
        if expr is not None and expr.type.name != "bool":
            self.report(
                path,
                f"`{path[-1]}` should be a condition, but this is {described(expr.type)}",
                "compare it with something, such as `= 'purchase'`",
            )

    def unknown_because_broken(self, text: str) -> bool:
        """Whether an expression mentions what was not understood, so that nothing can be said about it."""
        views = [name for kind, name in self.broken if kind == "feature_views"]
        features = [
            f"{view}.{name}"
            for view, outputs in self.outputs.items()
            for name, kind in outputs.items()
            if kind is None
        ]
        return any(re.search(rf"\b{re.escape(name)}\b", text) for name in (*views, *features))


def columns_of(source: Source) -> dict[str, ColumnType]:
    return {name: column.type for name, column in source.columns.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """A did-you-mean; where nothing is near, the few names there are."""
    names = list(known)
    if hint := did_you_mean(name, names):
        return hint
    if not names:
        return "none is defined"
    return f"known: {', '.join(names)}" if len(names) <= 12 else f"known: {', '.join(names[:12])}, …"


def _by_name(objects: Iterable[N]) -> Mapping[str, N]:
    """The first of each name (a second one is reported elsewhere)."""
    found: dict[str, N] = {}
    for each in objects:
        found.setdefault(each.name, each)
    return found

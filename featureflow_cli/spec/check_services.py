"""Checks of on-demand features and feature services: what they name, and what their columns are called."""

from featureflow_cli.errors import did_you_mean
from featureflow_cli.spec.check_sources import RESERVED_KEYS
from featureflow_cli.spec.models import FeatureService, FeatureView, OnDemandFeature, ViewReference
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.results import as_yaml, described, misfit
from featureflow_cli.spec.scope import Outputs, Scope, nearest
from featureflow_cli.spec.types import TIMESTAMP, ColumnType


def check_on_demand(scope: Scope, path: Path, feature: OnDemandFeature) -> None:
    """Reports what is wrong, and leaves the type of its answer in `scope.on_demand_types`."""
    schema = {
        f"{view}.{name}": answer
        for view, outputs in scope.outputs.items()
        for name, answer in outputs.items()
        if answer is not None
    }
    for name in feature.request:
        if name in {*RESERVED_KEYS, feature.name}:
            what = f"a request column cannot be called '{name}'"
            scope.report((*path, "request", name), what, "name it otherwise", key=True)
    if feature.name in scope.views or feature.name in RESERVED_KEYS:
        what = "a feature view" if feature.name in scope.views else "the moment of reading"
        scope.report((*path, "name"), f"'{feature.name}' is {what} already", "name the feature otherwise")
    scope.on_demand_types.setdefault(feature.name, None)
    if scope.unknown_because_broken(feature.expr):
        return
    expr = scope.expression((*path, "expr"), feature.expr, {**schema, "as_of": TIMESTAMP, **feature.request})
    if expr is None:
        return
    scope.on_demand_types[feature.name] = expr.type
    views = {name.partition(".")[0] for name in expr.columns if "." in name}
    scope.on_demand_views.setdefault(feature.name, tuple(sorted(views)))
    if feature.default is not None and (why := misfit(feature.default, expr.type)):
        what = f"the default of '{feature.name}' cannot be {as_yaml(feature.default)}: {why}"
        scope.report((*path, "default"), what)


def check_service(scope: Scope, path: Path, service: FeatureService) -> None:
    members = Members(scope)
    for index, reference in enumerate(service.features):
        at = (*path, "features", index)
        if isinstance(reference, ViewReference):
            members.add_view_reference(at, reference)
        else:
            members.add(at, reference)
    members.check_columns()
    entities = [view.entity for view, _ in members.views.values()]
    for index, name in enumerate(service.required_entities or ()):
        at = (*path, "required_entities", index)
        entity = scope.find("entities", scope.entities, name, at)
        if entity is not None and name not in entities and members.is_whole:
            what = f"no view of service '{service.name}' is of entity '{name}'"
            scope.report(at, what, nearest(name, dict.fromkeys(entities)))


class Members:
    """What a service asks for, while its references are read; `is_whole` until one is not understood."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.is_whole = True
        self.views: dict[str, tuple[FeatureView, dict[str, str]]] = {}
        self.outputs: dict[str, tuple[Path, ColumnType | None]] = {}
        self.keys: dict[str, tuple[Path, str]] = {}
        self.on_demand: list[tuple[Path, OnDemandFeature]] = []

    def add(self, at: Path, reference: str) -> None:
        """`view:feature`, `view:*`, or the name of an on-demand feature."""
        view_name, colon, feature_name = reference.partition(":")
        if colon:
            view = self._view(view_name, at)
            if view is not None:
                self._join(at, view.name, view, {})
                self._features(at, view.name, view, (feature_name,))
            return
        feature = self.scope.on_demand.get(reference)
        if feature is not None:
            self._add_on_demand(at, feature)
            return
        self.is_whole = False
        if not self.scope.is_broken("on_demand_features", reference):
            self.scope.report(at, *self._unknown(reference))

    def add_view_reference(self, at: Path, reference: ViewReference) -> None:
        view = self._view(reference.view, (*at, "view"))
        if view is None:
            return
        entity = self.scope.entities.get(view.entity)
        for name in reference.join_keys:
            if entity is not None and name not in entity.join_keys:
                what = f"entity '{entity.name}' of view '{view.name}' has no join key '{name}'"
                self.scope.report((*at, "join_keys", name), what, nearest(name, entity.join_keys), key=True)
        alias = reference.as_ or view.name
        if alias in self.scope.views and alias != view.name:
            what = f"'{alias}' is another feature view's name"
            self.scope.report((*at, "as"), what, "choose a name that no view has")
        self._join(at, alias, view, dict(reference.join_keys))
        self._features((*at, "features"), alias, view, reference.features, is_list=True)

    def check_columns(self) -> None:
        """On-demand features answer under their bare names, which no `view__feature` or join key may have.

        They name views, not aliases: of several members of a view one bears the view's own name.
        """
        for at, feature in self.on_demand:
            for name in self.scope.on_demand_views.get(feature.name, ()):
                aliases = [alias for alias, (view, _) in self.views.items() if view.name == name]
                if len(aliases) > 1 and name not in aliases:
                    several = " and ".join(f"'{alias}'" for alias in aliases)
                    what = (
                        f"on-demand feature '{feature.name}' reads view '{name}', which is here as {several}"
                    )
                    self.scope.report(at, what, "let one of them have the view's own name")
            for name, column_type in feature.request.items():
                self._key(at, name, described(column_type), f"request column of '{feature.name}'")
            if feature.name in self.keys:
                what = f"on-demand feature '{feature.name}' has the name of a join key or request column"
                self.scope.report(at, what, "rename it")

    def _add_on_demand(self, at: Path, feature: OnDemandFeature) -> None:
        self.on_demand.append((at, feature))
        self._output(at, feature.name, self.scope.on_demand_types.get(feature.name))
        joined = {view.name for view, _ in self.views.values()}
        for name in self.scope.on_demand_views.get(feature.name, ()):
            if name not in joined:
                self._join(at, name, self.scope.views[name], {})

    def _view(self, name: str, at: Path) -> FeatureView | None:
        view = self.scope.find("feature_views", self.scope.views, name, at)
        self.is_whole = self.is_whole and view is not None
        return view

    def _join(self, at: Path, alias: str, view: FeatureView, join_keys: dict[str, str]) -> None:
        """The view under that alias; its join keys are columns of the request, of one type each."""
        standing = self.views.setdefault(alias, (view, join_keys))
        if standing != (view, join_keys):
            what = f"'{alias}' is in the service twice, with other join keys"
            self.scope.report(at, what, "give one of them another name: as: NAME")
            return
        entity = self.scope.entities.get(view.entity)
        for name, key_type in (entity.join_keys if entity is not None else {}).items():
            self._key(at, join_keys.get(name, name), described(key_type), f"join key of '{alias}'")

    def _key(self, at: Path, column: str, key_type: str, of: str) -> None:
        _, earlier = self.keys.setdefault(column, (at, key_type))
        if earlier != key_type:
            what = f"column '{column}' of a request would be {earlier} and {key_type} ({of})"
            hint = f"map one to another column: {{view: …, join_keys: {{{column}: COLUMN}}}}"
            self.scope.report(at, what, hint)

    def _features(
        self, at: Path, alias: str, view: FeatureView, names: tuple[str, ...], *, is_list: bool = False
    ) -> None:
        outputs: Outputs = self.scope.outputs.get(view.name, {})
        for index, name in enumerate(names):
            if name == "*":
                for each, answer in outputs.items():
                    self._output(at, f"{alias}__{each}", answer)
            elif name in outputs:
                self._output(at, f"{alias}__{name}", outputs[name])
            else:
                self.is_whole = False
                place = (*at, index) if is_list else at
                what = f"view '{view.name}' has no feature '{name}'"
                self.scope.report(place, what, nearest(name, [*outputs, "*"]))

    def _output(self, at: Path, name: str, answer: ColumnType | None) -> None:
        """The same feature asked for twice is answered once; two features may not share a column."""
        earlier_at, _ = self.outputs.setdefault(name, (at, answer))
        is_on_demand = name in self.scope.on_demand
        if earlier_at != at and is_on_demand and "__" in name:
            what = f"the column '{name}' would stand for two features"
            self.scope.report(at, what, "rename the on-demand feature")

    def _unknown(self, reference: str) -> tuple[str, str]:
        """What is wrong with a reference without a colon, and how it is probably meant."""
        scope = self.scope
        if reference in scope.views:
            return f"'{reference}' is a view, not a feature", f'write "{reference}:*" for all of its features'
        for separator in (".", "__", "/"):
            view, found, name = reference.partition(separator)
            if found and view in scope.views:
                return f"'{reference}' is not a feature", f'write "{view}:{name}"'
        for view, outputs in scope.outputs.items():
            if reference in outputs:
                return f"there is no on-demand feature '{reference}'", f'write "{view}:{reference}"'
        what = f"there is no on-demand feature '{reference}'"
        near = did_you_mean(reference, [*scope.on_demand, *(f"{view}:*" for view in scope.views)])
        return what, near or "write view:feature, view:*, or the name of an on-demand feature"

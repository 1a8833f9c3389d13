"""Feature services, ad-hoc lists of features and on-demand features: who asks which views for what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from featureflow_cli.compute.defaults import typed
from featureflow_cli.compute.views import OnDemand, Repo, Service, ServiceView, View
from featureflow_cli.errors import NotFound, did_you_mean
from featureflow_cli.spec import models
from featureflow_cli.spec.expressions import parse
from featureflow_cli.spec.types import TIMESTAMP, ColumnType


def compile_on_demand(feature: models.OnDemandFeature, views: Mapping[str, View]) -> OnDemand:
    schema: dict[str, ColumnType] = {
        f"{view.name}.{name}": column_type for view in views.values() for name, column_type in view.outputs
    }
    schema |= {"as_of": TIMESTAMP, **feature.request}
    expr = parse(feature.expr, schema)
    needed = sorted({column.split(".")[0] for column in expr.columns if "." in column})
    return OnDemand(
        feature.name, expr, expr.type, dict(feature.request), tuple(needed), typed(feature.default, expr.type)
    )


def select_service(repo: Repo, service: models.FeatureService) -> Service:
    selected = select(repo, list(service.features))
    return replace(
        selected,
        name=service.name,
        required_entities=service.required_entities
        if service.required_entities is not None
        else selected.required_entities,
    )


def named(repo: Repo, name: str) -> Service:
    """The feature service of that name; NotFound with the nearest one."""
    if name not in repo.services:
        message = f"no feature service is named '{name}'"
        raise UnknownService(message, hint=did_you_mean(name, repo.services), at="service")
    return repo.services[name]


def select(repo: Repo, references: Sequence[str | models.ViewReference]) -> Service:
    """What `view:feature`, `view:*`, on-demand names and view references ask for, in the order asked.

    An on-demand feature brings the views that it reads, hidden (no features of theirs are answered unless
    asked for). NotFound names the place (`features[2]`) and the nearest known name.
    """
    chosen: dict[str, tuple[View, Mapping[str, str], list[str]]] = {}
    on_demand: list[OnDemand] = []
    for place, reference in enumerate(references):
        at = f"features[{place}]"
        if isinstance(reference, models.ViewReference):
            view = _view(repo, reference.view, at)
            names = _features(view, reference.features, at)
            _choose(chosen, reference.as_ or view.name, view, reference.join_keys, names)
        elif ":" in reference:
            view_name, feature_name = reference.split(":", 1)
            view = _view(repo, view_name, at)
            _choose(chosen, view.name, view, {}, _features(view, (feature_name,), at))
        elif reference in repo.on_demand:
            on_demand.append(repo.on_demand[reference])
        else:
            known = [*repo.on_demand, *(f"{name}:*" for name in repo.views)]
            _refuse("feature", reference, known, at)
    for feature in on_demand:
        for name in feature.views:
            if not any(view.name == name for view, _, _ in chosen.values()):
                _choose(chosen, name, repo.views[name], {}, [])
    views = tuple(
        ServiceView(view, alias, dict(join_keys), tuple(name for name, _ in view.outputs if name in names))
        for alias, (view, join_keys, names) in chosen.items()
    )
    return Service("", views, tuple(dict.fromkeys(on_demand)), _required(repo, views))


def _choose(
    chosen: dict[str, tuple[View, Mapping[str, str], list[str]]],
    alias: str,
    view: View,
    join_keys: Mapping[str, str],
    names: list[str],
) -> None:
    standing = chosen.setdefault(alias, (view, join_keys, []))
    standing[2].extend(name for name in names if name not in standing[2])


def _required(repo: Repo, views: Sequence[ServiceView]) -> tuple[str, ...]:
    """The entities of one join key, or all where there are none (design.md 1.11)."""
    asked = list(dict.fromkeys(member.view.entity for member in views))
    single = [name for name in asked if len(repo.entities[name]) == 1]
    return tuple(single or asked)


def _view(repo: Repo, name: str, at: str) -> View:
    if name not in repo.views:
        _refuse("feature view", name, repo.views, at)
    return repo.views[name]


def _features(view: View, names: Sequence[str], at: str) -> list[str]:
    known = [name for name, _ in view.outputs]
    chosen: list[str] = []
    for name in names:
        if name == "*":
            chosen.extend(known)
        elif name in known:
            chosen.append(name)
        else:
            _refuse("feature of view " + view.name, name, known, at)
    return list(dict.fromkeys(chosen))


def _refuse(kind: str, name: str, known: Iterable[str], at: str) -> NoReturn:
    message = f"no {kind} is named '{name}'"
    raise UnknownFeature(message, hint=did_you_mean(name, known), at=at)


class UnknownFeature(NotFound):
    code = "unknown_feature"


class UnknownService(NotFound):
    code = "unknown_service"

"""What there is in a project, for people: every object, what it is made of, and what uses it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from featureflow_cli.compute.views import OnDemand, Repo, Service, Source, View
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.evaluate.project import Project
from featureflow_cli.plan.differences import written
from featureflow_cli.spec.models import Definitions, Described
from featureflow_cli.times import format_duration

KINDS: Mapping[str, tuple[str, ...]] = {
    "entity": ("entities",),
    "source": ("sources", "data-source", "data-sources"),
    "view": ("views", "feature-view", "feature-views", "feature_view", "feature_views"),
    "on-demand": ("on_demand", "on-demand-feature", "on_demand_feature", "on_demand_features"),
    "service": ("services", "feature-service", "feature-services", "feature_service", "feature_services"),
}
"""Kinds and the other words that mean them."""


@dataclass(frozen=True)
class Entry:
    """One object in a listing. `state`: `applied`, `changed` or `new` as written, or `removed`."""

    kind: str
    name: str
    state: str
    owner: str
    description: str


def kind_of(word: str) -> str:
    """The kind that `word` means; NotFound for any other word."""
    for kind, others in KINDS.items():
        if word in {kind, *others}:
            return kind
    known = [*KINDS, *(others[0] for others in KINDS.values())]
    what = f"there is no kind '{word}'"
    raise NotFound(what, hint=did_you_mean(word, known) or f"one of: {', '.join(KINDS)}")


def counts(repo: Repo) -> dict[str, int]:
    """How many objects of each kind, under the kind's name in the plural."""
    return {
        "entities": len(repo.entities),
        "sources": len(repo.sources),
        "views": len(repo.views),
        "features": sum(len(view.outputs) for view in repo.views.values()),
        "on-demand features": len(repo.on_demand),
        "services": len(repo.services),
    }


def entries(project: Project, kind: str | None) -> list[Entry]:
    """Objects as written, and those that the next apply will remove; by kind, then as written."""
    pending: dict[tuple[str, str], str] = {
        (change.kind, change.name): change.sign for change in project.changes() if change.kind in KINDS
    }
    states = {"+": "new", "~": "changed", "": "applied"}
    listed = [
        Entry(found, name, states[pending.get((found, name), "")], model.owner, model.description)
        for found, name, model in _objects(project.written.definitions)
    ]
    listed += [
        Entry(found, name, "removed", "", "") for (found, name), sign in pending.items() if sign == "-"
    ]
    order = list(KINDS)
    return [
        entry
        for entry in sorted(listed, key=lambda entry: order.index(entry.kind))
        if kind is None or entry.kind == kind
    ]


def description(project: Project, reference: str) -> dict[str, Any]:
    """Everything about `KIND/NAME` (or a NAME that only one object has), as written."""
    kind, name, model = _find(project.written.definitions, reference)
    repo = project.written_repo
    state = next(entry.state for entry in entries(project, kind) if entry.name == name)
    head: dict[str, Any] = {"kind": kind, "name": name, "state": state}
    head |= {
        key: value
        for key, value in (("description", model.description), ("owner", model.owner), ("tags", model.tags))
        if value
    }
    if kind == "entity":
        keys = {key.name: str(key.type) for key in repo.entities[name]}
        views = [view.name for view in repo.views.values() if view.entity == name]
        return {**head, "join_keys": keys, "views": views}
    if kind == "source":
        return {**head, **_source(repo, repo.sources[name])}
    if kind == "view":
        return {**head, **_view(repo, repo.views[name], written(model))}
    if kind == "on-demand":
        return {**head, **_on_demand(repo, repo.on_demand[name])}
    return {**head, **_service(repo.services[name])}


def _objects(definitions: Definitions) -> Iterator[tuple[str, str, Described]]:
    """(kind, name, model) of every object, in order of kind and as written."""
    for entity in definitions.entities:
        yield "entity", entity.name, entity
    for source in definitions.sources:
        yield "source", source.name, source
    for view in definitions.feature_views:
        yield "view", view.name, view
    for feature in definitions.on_demand_features:
        yield "on-demand", feature.name, feature
    for service in definitions.feature_services:
        yield "service", service.name, service


def _find(definitions: Definitions, reference: str) -> tuple[str, str, Described]:
    word, slash, name = reference.partition("/")
    kind = kind_of(word) if slash else None
    name = name if slash else word
    known = [entry for entry in _objects(definitions) if kind in {None, entry[0]}]
    matching = [entry for entry in known if entry[1] == name]
    if not matching:
        what = f"there is no {kind or 'object'} '{name}'"
        raise NotFound(what, hint=did_you_mean(name, [entry[1] for entry in known]) or "run: featureflow ls")
    if len(matching) > 1:
        choices = " or ".join(f"{entry[0]}/{name}" for entry in matching)
        what = f"'{name}' is the name of several objects"
        raise UsageError(what, hint=f"say {choices}")
    return matching[0]


def _source(repo: Repo, source: Source) -> dict[str, Any]:
    columns = [
        {
            "name": name,
            "type": str(column),
            "null": name not in source.not_null,
            "from": ".".join(source.paths[name]),
        }
        for name, column in source.columns.items()
    ]
    facts: dict[str, Any] = {"timestamp_field": source.timestamp_field}
    if source.event_id:
        facts |= {"event_id": source.event_id, "dedupe_within": format_duration(source.dedupe_within_us)}
    if source.created_timestamp:
        facts["created_timestamp"] = source.created_timestamp
    facts |= {key: value for key, value in (("files", source.files), ("batch", source.batch)) if value}
    views = [view.name for view in repo.views.values() if view.source.name == source.name]
    return {**facts, "columns": columns, "views": views}


def _view(repo: Repo, view: View, as_written: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "entity": view.entity,
        "join_keys": {key.name: key.column for key in view.join_keys},
        "source": view.source.name,
        "ttl": "forever" if view.ttl_us is None else format_duration(view.ttl_us),
        "fingerprint": view.fingerprint[:12],
    }
    if view.where is not None:
        facts["where"] = as_written.get("where")
    if view.latest:
        facts["latest"] = [{"name": name, "type": str(column)} for name, column in view.latest]
        if view.deleted is not None:
            facts["deleted"] = as_written.get("deleted")
    else:
        facts["features"] = [
            {
                "name": feature.name,
                "type": str(feature.type),
                "aggregation": feature.aggregation,
                "window": feature.window.text,
                "resolution": "-"
                if feature.window.width_us is None
                else format_duration(feature.window.resolution_us),
            }
            for feature in view.features
        ]
    return {
        **facts,
        "on-demand": [feature.name for feature in repo.on_demand.values() if view.name in feature.views],
        "services": [
            service.name
            for service in repo.services.values()
            if view.name in {member.view.name for member in service.views}
        ],
    }


def _on_demand(repo: Repo, feature: OnDemand) -> dict[str, Any]:
    return {
        "expr": feature.expr.text,
        "type": str(feature.type),
        "request": {name: str(column) for name, column in feature.request.items()},
        "views": list(feature.views),
        "services": [
            service.name
            for service in repo.services.values()
            if feature.name in {f.name for f in service.on_demand}
        ],
    }


def _service(service: Service) -> dict[str, Any]:
    return {
        "required_entities": list(service.required_entities),
        "features": [{"name": name, "type": str(column)} for name, column in service.outputs],
        "views": [member.view.name for member in service.views],
    }

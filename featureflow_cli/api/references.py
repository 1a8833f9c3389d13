"""What people call features: a service's name, `view:feature`, or a bare name within one entity."""

from collections.abc import Mapping, Sequence

from featureflow_cli.compute.selecting import named, select, select_service
from featureflow_cli.compute.views import Repo, Service
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.spec.models import FeatureService, ViewReference

Features = str | FeatureService | Sequence[str | ViewReference]
"""A feature service (or its name), or a list of `view:feature`, `view:*` and on-demand names."""


def service_of(repo: Repo, features: Features) -> Service:
    """What `features` ask for; NotFound with the nearest name, UsageError for an empty list."""
    if isinstance(features, str):
        return named(repo, features)
    if isinstance(features, FeatureService):
        return select_service(repo, features)
    if not features:
        message = "no features are asked for"
        raise UsageError(message, hint="features='a_service' or ['view:feature', 'view:*']", at="features")
    return select(repo, features)


def entity_references(repo: Repo, entity: str, names: Sequence[str], at: str) -> list[str]:
    """References of names that stand in an argument of one entity: bare names are of that entity's views.

    NotFound with a did-you-mean where no view of the entity has such a feature, UsageError where two have.
    """
    require_entity(repo, entity, at)
    if isinstance(names, str):
        message = f"{at} is a list of names, not a text"
        raise UsageError(message, hint=f"{at}=['{names}']", at=at)
    views = {name: view for name, view in repo.views.items() if view.entity == entity}
    homes: dict[str, list[str]] = {}
    for view in views.values():
        for name, _ in view.outputs:
            homes.setdefault(name, []).append(view.name)
    return [_reference(repo, homes, views, name, f"{at}[{place}]") for place, name in enumerate(names)]


def require_entity(repo: Repo, entity: str, at: str) -> None:
    if entity not in repo.entities:
        message = f"no entity is named '{entity}'"
        hint = did_you_mean(entity, repo.entities) or f"one of: {', '.join(repo.entities)}"
        raise NotFound(message, hint=hint, at=at)


def _reference(
    repo: Repo, homes: Mapping[str, list[str]], views: Mapping[str, object], name: str, at: str
) -> str:
    if name in homes:
        if len(homes[name]) > 1:
            message = f"'{name}' is a feature of several views"
            raise UsageError(message, hint=" or ".join(f"{view}:{name}" for view in homes[name]), at=at)
        return f"{homes[name][0]}:{name}"
    if name in repo.on_demand:
        return name
    view, colon, _ = name.partition(":")
    if colon and view in repo.views and view not in views:
        message = f"view '{view}' is of entity '{repo.views[view].entity}'"
        raise UsageError(message, hint=f"ask for it in {repo.views[view].entity}_features", at=at)
    if colon:
        return name  # `select` knows what is wrong with it
    message = f"no feature of this entity is named '{name}'"
    known = [*homes, *repo.on_demand, *(f"{view}:*" for view in views)]
    raise NotFound(message, hint=did_you_mean(name, known) or f"one of: {', '.join(homes)}", at=at)

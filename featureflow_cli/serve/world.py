"""What is served: the applied version as it stands, seen anew whenever it changes; nothing needs a restart.

A `World` never changes, so that a request sees one version from its first look to its answer.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from featureflow_cli.compute.selecting import named, select
from featureflow_cli.compute.views import Repo, Service, View
from featureflow_cli.errors import NotFound, StoreUnavailable, UsageError, did_you_mean
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.spelling import Spelling, spellings
from featureflow_cli.evaluate.vector import Reader
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.plan.applied import Applied, Build
from featureflow_cli.serve.lanes import Lane
from featureflow_cli.times import Clock, format_duration, format_timestamp

LISTS_KEPT = 256
"""Ad-hoc lists of features that stay compiled; the oldest goes first."""


@dataclass(frozen=True)
class Served:
    """A service or a list of features, ready to read: the lane joins concurrent reads of it."""

    reader: Reader
    spellings: Mapping[str, Spelling]
    lane: Lane


@dataclass(frozen=True)
class World:
    """One applied version, and the builds that served when it was looked at."""

    applied: Applied
    repo: Repo
    serving: Mapping[str, tuple[View, Build]]
    store: OnlineStore
    clock: Clock
    threads: Executor
    store_seconds: Callable[[float], None]
    _services: dict[str, Served] = field(default_factory=dict)
    _lists: dict[tuple[str, ...], Served] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return self.applied.version

    @property
    def unbuilt(self) -> list[str]:
        """Views whose online state is not built yet."""
        return [name for name in self.repo.views if name not in self.serving]

    def lost(self) -> list[str]:
        """Views that serve by the registry but have no state in the store; StoreUnavailable where it is away."""
        shards = range(self.store.shards)
        return [
            name
            for name, (_, build) in self.serving.items()
            if any(self.store.marker(shard, build.field) is None for shard in shards)
        ]

    def service(self, name: str) -> Served:
        if name not in self._services:
            self._services[name] = self._served(named(self.repo, name))
        return self._services[name]

    def features(self, references: tuple[str, ...]) -> Served:
        """`view:feature`, `view:*` and on-demand names; NotFound says which (`features[2]`) is unknown."""
        if references not in self._lists:
            found = self._served(select(self.repo, references))
            if len(self._lists) >= LISTS_KEPT:
                del self._lists[next(iter(self._lists))]
            self._lists[references] = found
        return self._lists[references]

    def entity(self, name: str) -> Served:
        """All views of an entity."""
        self.require_entity(name)
        views = tuple(f"{view.name}:*" for view in self.repo.views.values() if view.entity == name)
        if not views:
            message = f"no feature view is of entity '{name}'"
            raise UsageError(message, at="entity")
        return self.features(views)

    def require_entity(self, name: str) -> None:
        if name not in self.repo.entities:
            message = f"no entity is named '{name}'"
            raise UnknownEntity(message, hint=did_you_mean(name, self.repo.entities), at="entity")

    def warm(self) -> None:
        """Read nobody once by every service, so that no request pays for what is loaded at first use."""
        for name in self.repo.services:
            try:
                reader = self.service(name).reader
                reader.read([dict.fromkeys([*reader.expected.keys, *reader.expected.request])], self.clock())
            except StoreUnavailable:
                continue  # not built yet; requests will be told

    def _served(self, service: Service) -> Served:
        reader = Reader(self.store, service, self.serving, self.store_seconds)
        return Served(reader, spellings(reader.service), Lane(reader, self.clock, self.threads))


class UnknownEntity(NotFound):
    code = "unknown_entity"


class Worlds:
    """Where worlds come from: the project, read on one thread at a time."""

    def __init__(self, project: Project, threads: Executor, store_seconds: Callable[[float], None]) -> None:
        self._project = project
        self._threads = threads
        self._store_seconds = store_seconds
        self._looking = threading.Lock()
        self.now = self._look(None)

    def look(self) -> World:
        """The world as it stands; the same object as before where nothing has changed.

        StoreUnavailable where the registry is away: the world that was known stays.
        """
        with self._looking:
            self.now = self._look(self.now)
            return self.now

    def _look(self, before: World | None) -> World:
        project = self._project
        project.relearn()
        if before is not None and project.applied_or_none is None:
            message = "the registry holds nothing any more"
            raise StoreUnavailable(message, hint="what was applied before goes on being served")
        serving = project.serving()
        if before is not None and project.applied == before.applied and serving == before.serving:
            return before
        return World(
            project.applied,
            project.repo,
            serving,
            project.online,
            project.clock,
            self._threads,
            self._store_seconds,
        )


def described(world: World) -> dict[str, object]:
    """What is applied, for GET /registry."""
    repo = world.repo
    return {
        "project": repo.project,
        "version": world.version,
        "applied_at": format_timestamp(world.applied.applied_us),
        "applied_by": world.applied.applied_by,
        "entities": {name: {key.name: str(key.type) for key in keys} for name, keys in repo.entities.items()},
        "feature_views": {
            name: {
                "entity": view.entity,
                "source": view.source.name,
                "ttl": "forever" if view.ttl_us is None else format_duration(view.ttl_us),
                "fingerprint": view.fingerprint,
                "served": name in world.serving,
                "features": {feature: str(column_type) for feature, column_type in view.outputs},
            }
            for name, view in repo.views.items()
        },
        "on_demand_features": {
            name: {
                "type": str(feature.type),
                "expr": feature.expr.text,
                "request": {column: str(column_type) for column, column_type in feature.request.items()},
            }
            for name, feature in repo.on_demand.items()
        },
        "feature_services": {
            name: {
                "features": {output: str(column_type) for output, column_type in service.outputs},
                "required_entities": list(service.required_entities),
            }
            for name, service in repo.services.items()
        },
    }

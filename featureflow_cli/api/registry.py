"""What is applied, to look at: Feast's `list_*` and `get_*` over the registry's newest version."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from featureflow_cli.errors import NotFound, did_you_mean
from featureflow_cli.evaluate.project import Project
from featureflow_cli.plan.applied import Version
from featureflow_cli.spec.models import (
    Definitions,
    Entity,
    FeatureService,
    FeatureView,
    OnDemandFeature,
    Source,
)
from featureflow_cli.spec.repo import load_definitions_json

Named = TypeVar("Named", Entity, Source, FeatureView, OnDemandFeature, FeatureService)


@dataclass(frozen=True)
class FeatureRegistry:
    """The applied definitions of a project, as they stand now; `FeatureStore.registry` is one.

    Every method raises UsageError where nothing is applied yet; every `get_*` NotFound with a did-you-mean.
    """

    project: Project

    @property
    def version(self) -> int:
        """The number of the newest apply."""
        self.project.relearn()
        return self.project.applied.version

    @property
    def definitions(self) -> Definitions:
        """All of it at once."""
        self.project.relearn()
        return load_definitions_json(self.project.applied.definitions)

    def history(self) -> list[Version]:
        """Every apply: when, by whom, and what it changed."""
        return list(self.project.registry.history())

    def list_entities(self) -> list[Entity]:
        return list(self.definitions.entities)

    def list_sources(self) -> list[Source]:
        return list(self.definitions.sources)

    def list_feature_views(self) -> list[FeatureView]:
        return list(self.definitions.feature_views)

    def list_on_demand_features(self) -> list[OnDemandFeature]:
        return list(self.definitions.on_demand_features)

    def list_feature_services(self) -> list[FeatureService]:
        return list(self.definitions.feature_services)

    def list_features(self, entity: str | None = None) -> list[str]:
        """Every `view:feature` (windows written out), of all views or of one entity's."""
        self.project.relearn()
        if entity is not None:
            self.get_entity(entity)
        return [
            f"{view.name}:{name}"
            for view in self.project.repo.views.values()
            if entity in {None, view.entity}
            for name, _ in view.outputs
        ]

    def get_entity(self, name: str) -> Entity:
        return _get("entity", self.definitions.entities, name)

    def get_source(self, name: str) -> Source:
        return _get("source", self.definitions.sources, name)

    def get_feature_view(self, name: str) -> FeatureView:
        return _get("feature view", self.definitions.feature_views, name)

    def get_on_demand_feature(self, name: str) -> OnDemandFeature:
        return _get("on-demand feature", self.definitions.on_demand_features, name)

    def get_feature_service(self, name: str) -> FeatureService:
        return _get("feature service", self.definitions.feature_services, name)


def _get(kind: str, known: Sequence[Named], name: str) -> Named:
    for each in known:
        if each.name == name:
            return each
    message = f"no {kind} is named '{name}'"
    names = [each.name for each in known]
    raise NotFound(message, hint=did_you_mean(name, names) or f"one of: {', '.join(names)}")

"""`ConsistencyChecker`: do the online and the offline store say the same of these entities, at this moment?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featureflow_cli.api.references import entity_references, require_entity
from featureflow_cli.api.stores import OfflineStore, OnlineStore
from featureflow_cli.compute.selecting import select
from featureflow_cli.compute.views import JoinKey, Service
from featureflow_cli.errors import UsageError
from featureflow_cli.evaluate.asking import expected_of, typed_row
from featureflow_cli.evaluate.project import Project
from featureflow_cli.skew.check import check_keys, of_entity, repo_service, sampled
from featureflow_cli.skew.comparing import Thresholds
from featureflow_cli.skew.report import ConsistencyReport

SAMPLE = 500


@dataclass(frozen=True)
class ConsistencyChecker:
    """Reads entities as the server does, and evaluates the log at the same moment by what training runs."""

    offline_store: OfflineStore
    online_store: OnlineStore

    def __post_init__(self) -> None:
        offline, online = self.offline_store.project, self.online_store.project
        if (offline.root, offline.target) != (online.root, online.target):
            message = "the stores are of two projects"
            raise UsageError(message, hint="take both from one FeatureStore")

    def check(
        self,
        entity: str,
        entity_ids: Sequence[Any] | None = None,
        feature_names: Sequence[str] | None = None,
        *,
        max_relative: float = 0.05,
        max_share: float = 0.05,
    ) -> ConsistencyReport:
        """Compare these entities, or a sample of those that are held online; all features of the entity, or these.

        An id is the join key, or a tuple or dict of several. A value differs where it is off by more than
        `max_relative`, and a feature is flagged where more than `max_share` of the entities differ.
        """
        project = self.online_store.project
        project.relearn()
        service = _service(project, entity, feature_names)
        if entity_ids is None:
            keys = sampled(project, service, SAMPLE, seed=0)
        else:
            join_keys = project.repo.entities[entity]
            expected = expected_of(service)
            keys = [typed_row(expected, _row(each, join_keys)) for each in entity_ids]
        if not keys:
            message = f"there is no {entity} to check"
            raise UsageError(message, hint="name entity_ids that are held online", at="entity_ids")
        return check_keys(project, service, keys, thresholds=Thresholds(max_relative, max_share))


def _service(project: Project, entity: str, names: Sequence[str] | None) -> Service:
    require_entity(project.repo, entity, "entity")
    if names is None:
        return repo_service(project, entity)
    references = entity_references(project.repo, entity, names, "feature_names")
    on_demand = [name for name in references if name in project.repo.on_demand]
    if on_demand or not references:
        message = f"{', '.join(on_demand) or 'an empty list'}: the features of views are what is compared"
        raise UsageError(message, hint="leave feature_names out to compare all of them", at="feature_names")
    return of_entity(select(project.repo, references), entity)


def _row(id: Any, join_keys: Sequence[JoinKey]) -> Mapping[str, object]:
    if isinstance(id, Mapping):
        return id
    parts = id if isinstance(id, tuple) else (id,)
    if len(parts) != len(join_keys):
        message = f"{id!r} is not an id: it needs {', '.join(key.name for key in join_keys)}"
        raise UsageError(message, at="entity_ids")
    return {key.name: part for key, part in zip(join_keys, parts, strict=True)}

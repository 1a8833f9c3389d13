"""The accepted events of all sources that a service reads, as relations of one engine: one moment of the world."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Service, Source
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.tables import history
from featureflow_cli.offline.log import OfflineLog

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow_cli.offline.snapshots import Snapshot


@dataclass(frozen=True)
class Relations:
    """`names`: relation by source; `versions`: of each streamed source's log, to build the same again."""

    names: dict[str, str]
    versions: dict[str, int]


def relations(
    project: Project,
    engine: Engine,
    service: Service,
    *,
    before_us: int | None = None,
    versions: dict[str, int] | None = None,
) -> Relations:
    """Relations of events with timestamps before `before_us`; of the logs' newest versions, or those given."""
    names: dict[str, str] = {}
    taken: dict[str, int] = {}
    for source in {member.view.source.name: member.view.source for member in service.views}.values():
        snapshot = _snapshot(project, source, (versions or {}).get(source.name))
        if snapshot is not None:
            taken[source.name] = snapshot.version
        in_place = _in_place(project, source)
        names[source.name] = accepted(engine, source, snapshot, in_place, before_us=before_us)
    return Relations(names, taken)


def _snapshot(project: Project, source: Source, version: int | None) -> "Snapshot | None":
    """None for a table that others keep: it is its own log. A source never streamed has an empty one."""
    if not source.streamed:
        return None
    return OfflineLog(project.log_path(source.name), source).snapshot(version)


def _in_place(project: Project, source: Source) -> "Iterable[pa.Table] | None":
    return history(project, source) if source.batch else None

"""The accepted events of all sources that a service reads, as relations of one engine: one moment of the world."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
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
    """`names`: relation by source; `versions`: of each streamed source's log.

    `ends`: what these logs held by partition. A log only grows, so below the same ends it says the same again, long
    after its version can no longer be opened.
    `refused`: by source and reason, how many events of tables read in place are not among them.
    """

    names: dict[str, str]
    versions: dict[str, int]
    ends: dict[str, dict[int, int]]
    refused: dict[str, dict[str, int]]


def relations(
    project: Project,
    engine: Engine,
    service: Service,
    *,
    before_us: int | None = None,
    ends: Mapping[str, Mapping[int, int]] | None = None,
) -> Relations:
    """Relations of events with timestamps before `before_us`; of the logs as they are, or below the ends given."""
    names: dict[str, str] = {}
    known: dict[str, dict[int, int]] = {}
    taken: dict[str, int] = {}
    refused: dict[str, Counter[str]] = {}
    for source in {member.view.source.name: member.view.source for member in service.views}.values():
        snapshot, below = _snapshot(project, source), (ends or {}).get(source.name)
        if snapshot is not None:
            taken[source.name] = snapshot.version
            known[source.name] = dict(snapshot.ends if below is None else below)
        in_place = None
        if source.batch:
            counts = refused.setdefault(source.name, Counter())
            in_place = history(project, source, refuse=partial(_count, counts))
        names[source.name] = accepted(engine, source, snapshot, in_place, before_us=before_us, below=below)
    return Relations(names, taken, known, {name: dict(counts) for name, counts in refused.items() if counts})


def _snapshot(project: Project, source: Source) -> "Snapshot | None":
    """None for a table that others keep: it is its own log. A source never streamed has an empty one."""
    return OfflineLog(project.log_place(source.name), source).snapshot() if source.streamed else None


def _count(counts: Counter[str], letters: "pa.Table") -> None:
    """Readers only count what is refused: `stream` keeps it, and they may have nowhere to write."""
    counts.update(letters.column("reason").to_pylist())

"""check-skew, live: what the online store answers now, against what the offline log says of the same moment.

Entities are sampled from the online store and read as the server reads them; each row is then evaluated offline
at its own `as_of`. A difference is *staleness* where the state had simply not seen some of the log's events, and
*definition* skew where the very events that are in the state give another answer.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

import numpy as np

from featureflow_cli.compute.codec import Ends
from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.selecting import select
from featureflow_cli.compute.views import JoinKey, Service, ServiceView, Source
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.asking import typed_value
from featureflow_cli.evaluate.past import as_vectors, labels
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.relations import relations
from featureflow_cli.evaluate.rows import rows_at
from featureflow_cli.evaluate.spelling import spelled, spellings
from featureflow_cli.evaluate.tables import listed
from featureflow_cli.evaluate.vector import Reader, Vector
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.skew.applied import applied, beyond, chosen
from featureflow_cli.skew.comparing import Thresholds, distance
from featureflow_cli.skew.report import ConsistencyReport, FeatureSkew
from featureflow_cli.sources.files import PARTITION
from featureflow_cli.spec.types import Value

Key = Mapping[str, Value]
DEFAULT = Thresholds()
LOOK_EVERY_S = 0.5
LOG_WAIT_S = 15.0
"""How long the log may take to catch up with the states: `stream` writes online first."""


@dataclass(frozen=True)
class Readings:
    """What was read online of some entities: their keys, vectors and each view's headers."""

    keys: list[Key]
    vectors: list[Vector]
    ends: dict[str, Ends]

    @property
    def t_us(self) -> Ints:
        return np.array([vector.as_of_us for vector in self.vectors], np.int64)

    def take(self, rows: Sequence[int]) -> "Readings":
        ends = {alias: chosen(held, rows) for alias, held in self.ends.items()}
        return Readings([self.keys[row] for row in rows], [self.vectors[row] for row in rows], ends)


def check(
    project: Project,
    *,
    service: Service | None = None,
    entities: Sequence[str] = (),
    sample: int = 500,
    thresholds: Thresholds = DEFAULT,
    seed: int = 0,
    pause: Callable[[float], None] = time.sleep,
) -> list[ConsistencyReport]:
    """One report per entity: those named, or all that have views; of `service`'s features, or of all."""
    repo = project.repo
    asked = [*entities] or [
        name for name in repo.entities if any(v.entity == name for v in repo.views.values())
    ]
    reports = []
    for entity in asked:
        part = of_entity(repo_service(project, entity) if service is None else service, entity)
        if part.views:
            keys = sampled(project, part, sample, seed)
            reports.append(check_keys(project, part, keys, thresholds=thresholds, pause=pause))
    return reports


def repo_service(project: Project, entity: str) -> Service:
    """All views of an entity."""
    views = [f"{view.name}:*" for view in project.repo.views.values() if view.entity == entity]
    return select(project.repo, views)


def of_entity(service: Service, entity: str) -> Service:
    """The part of a service that one entity answers for, under the views' own names and keys."""
    members: dict[str, ServiceView] = {}
    for each in service.views:
        if each.view.entity == entity and each.features:
            known = members.get(each.view.name)
            names = dict.fromkeys([*(known.features if known else ()), *each.features])
            members[each.view.name] = ServiceView(each.view, each.view.name, {}, tuple(names))
    return Service(service.name, tuple(members.values()), (), (entity,))


def sampled(project: Project, service: Service, count: int, seed: int) -> list[Key]:
    """Keys of entities that hold a state of any of the service's views."""
    serving = project.serving()
    held: set[str] = set()
    for each in service.views:
        if each.view.name in serving:
            _, build = serving[each.view.name]
            held |= set(project.online.sample(build.entity, build.field, count, seed))
    ids = sorted(held)
    ids = random.Random(seed).sample(ids, min(count, len(ids)))  # noqa: S311  (a sample, not a secret)
    return [key_of(id, service.views[0].view.join_keys) for id in ids]


def key_of(id: str, keys: Sequence[JoinKey]) -> Key:
    """The join keys that a store's id spells."""
    parts = [unquote(part) for part in id.split(",")]
    return {
        key.name: int(part)
        if key.type.name in {"timestamp", "date"}
        else typed_value(part, key.type, key.name)
        for key, part in zip(keys, parts, strict=True)
    }


def check_keys(
    project: Project,
    service: Service,
    keys: Sequence[Key],
    *,
    thresholds: Thresholds = DEFAULT,
    pause: Callable[[float], None] = time.sleep,
) -> ConsistencyReport:
    """Compare these entities; `service` is of one entity. States ahead of the log are waited for, or left out."""
    (entity,) = service.required_entities
    serving = project.serving()
    reader = Reader(project.online, service, serving)
    service = reader.service
    builds = {each.alias: serving[each.view.name][1] for each in service.views}
    marked = {alias: _marker(project.online, build.field) for alias, build in builds.items()}
    taken = reader.take(keys)
    everything = Readings(list(keys), reader.answer(keys, taken, project.clock()), taken.ends)
    ahead, ends = _settled(project, service, everything, pause)
    readings = everything.take(np.flatnonzero(~ahead).tolist())
    lagging = tuple(
        each.view.name
        for each in service.views
        if _is_behind(marked[each.alias], ends[each.view.source.name])
    )
    found: list[FeatureSkew] = []
    if readings.keys:
        with project.engine() as engine:
            names = relations(project, engine, service, before_us=int(readings.t_us.max())).names
            for each in service.views:
                alone = replace(service, views=(each,))
                floor = builds[each.alias].floor or {}
                found += _view_skew(
                    engine, alone, names, readings, floor, thresholds, each.view.name in lagging
                )
    return ConsistencyReport(entity, len(readings.keys), tuple(found), lagging, int(ahead.sum()))


def _view_skew(
    engine: Engine,
    service: Service,
    names: Mapping[str, str],
    readings: Readings,
    floor: Mapping[int, int],
    thresholds: Thresholds,
    is_lagging: bool,
) -> list[FeatureSkew]:
    """The features of the one view that `service` holds, each compared over all readings."""
    (member,) = service.views
    offline = _offline(engine, service, names, readings)
    differing: dict[str, list[tuple[int, float]]] = {name: [] for name, _ in service.outputs}
    for row, (online, then) in enumerate(zip(readings.vectors, offline, strict=True)):
        for name, rows in differing.items():
            off = distance(online.features[name], then.features[name])
            if off > thresholds.relative:
                rows.append((row, off))
    doubtful = sorted({row for rows in differing.values() for row, _ in rows})
    part = readings.take(doubtful)
    seen = _as_applied(engine, service, names, part, floor) if doubtful else []
    place = {row: at for at, row in enumerate(doubtful)}
    ranks = {f"{member.alias}__{each.name}" for each in member.view.features if each.aggregation == "rank"}
    how = spellings(service)
    found = []
    for name, rows in differing.items():
        stale = 0
        for row, _ in rows:
            same = distance(readings.vectors[row].features[name], seen[place[row]].features[name])
            # A rank's population is everybody's state; how far each had got is not told here.
            stale += same <= thresholds.relative or (name in ranks and is_lagging)
        share = len(rows) / len(readings.keys)
        skew = FeatureSkew(name, len(rows), stale, len(rows) - stale, 0.0, flagged=share > thresholds.share)
        if rows:
            row, largest = max(rows, key=lambda pair: pair[1])
            values = [spelled(vectors[row].features, how)[name] for vectors in (readings.vectors, offline)]
            key = ",".join(str(part) for part in readings.keys[row].values())
            skew = replace(skew, largest=largest, example=key, online=values[0], offline=values[1])
        found.append(skew)
    return found


def _offline(engine: Engine, service: Service, names: Mapping[str, str], readings: Readings) -> list[Vector]:
    table = labels(service, readings.keys)
    return as_vectors(service, rows_at(engine, service, names, table, readings.t_us), readings.t_us)


def _as_applied(
    engine: Engine, service: Service, names: Mapping[str, str], readings: Readings, floor: Mapping[int, int]
) -> list[Vector]:
    """The same from the events that were in the states only; a missing state stands for one at the floor."""
    (member,) = service.views
    ends, source = readings.ends[member.alias], member.view.source.name
    absent = np.setdiff1d(np.arange(len(readings.keys)), ends.state)
    ends = Ends(
        np.concatenate([ends.state, np.repeat(absent, len(floor))]),
        np.concatenate([ends.partition, np.tile(np.array([*floor], np.int64), len(absent))]),
        np.concatenate([ends.end, np.tile(np.array([*floor.values()], np.int64), len(absent))]),
    )
    cut = applied(engine, member.view, names[source], labels(service, readings.keys), ends)
    return _offline(engine, service, {source: cut}, readings)


def _settled(
    project: Project, service: Service, readings: Readings, pause: Callable[[float], None]
) -> tuple[Bools, dict[str, dict[int, int]]]:
    """(which readings hold events that the log does not have even after a while, the logs' ends by source)."""
    sources = {each.view.source.name: each.view.source for each in service.views}
    for attempt in range(int(LOG_WAIT_S / LOOK_EVERY_S) + 1):
        if attempt:
            pause(LOOK_EVERY_S)
        ends = {name: log_ends(project, source) for name, source in sources.items()}
        ahead = np.zeros(len(readings.keys), np.bool_)
        for each in service.views:
            ahead |= beyond(readings.ends[each.alias], len(readings.keys), ends[each.view.source.name])
        if not ahead.any():
            break
    return ahead, ends


def log_ends(project: Project, source: Source) -> dict[int, int]:
    """One past the last offset of each partition; of a table that others keep, of its listed files."""
    if source.streamed:
        return OfflineLog(project.log_place(source.name), source).snapshot().ends
    files = listed(project, source)
    return {PARTITION: files[-1].end_offset} if files else {}


def _marker(store: OnlineStore, field: str) -> dict[int, int]:
    """Up to where the states of all shards are complete, by partition."""
    markers = [store.marker(shard, field) or {} for shard in range(store.shards)]
    partitions = {partition for marker in markers for partition in marker}
    return {partition: min(marker.get(partition, 0) for marker in markers) for partition in partitions}


def _is_behind(marker: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    return any(end > marker.get(partition, 0) for partition, end in ends.items())

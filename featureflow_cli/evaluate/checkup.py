"""What `doctor` looks at: each check answers by itself, and none of them changes anything of the project."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.topics import admin, streamed
from featureflow_cli.plan.costs import size_text
from featureflow_cli.plan.topics import RECEIVED, kafka_of, partitions_text, topics_of
from featureflow_cli.spec.models import KafkaStream

LIBRARIES = ("duckdb", "pyarrow", "deltalake", "numpy", "pydantic", "sqlglot", "typer")
LEAST_FREE_BYTES = 1_000_000_000
Health = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    check: str
    health: Health
    what: str
    hint: str = ""


def look(project: Project) -> list[Finding]:
    """Every check, in order; an error of one is its finding, not the end of the others."""
    found = [_answer(name, project, check) for name, check in CHECKS]
    try:
        topics = streamed(project, project.written_repo)
    except FeatureflowError:
        return found  # a finding of its own by now
    return found + [
        _answer(f"kafka {source}", project, partial(_kafka, source, kafka))
        for source, kafka in topics.items()
    ]


def redis_trouble(project: Project) -> StoreUnavailable | None:
    """Why states could not be kept in Redis now; None where they can, or lie elsewhere."""
    if project.config.online_store.type != "redis":
        return None
    try:
        _redis(project)
    except StoreUnavailable as err:
        return err
    return None


def _answer(name: str, project: Project, check: Callable[[Project], Finding]) -> Finding:
    try:
        return check(project)
    except FeatureflowError as err:
        return Finding(name, "failed", str(err).split("\n", 1)[0], err.hint)
    except OSError as err:
        return Finding(name, "failed", f"{err.strerror}: {err.filename}")


def _machine(project: Project) -> Finding:
    python = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("machine", "ok", f"Python {python}, {os.cpu_count()} cores")


def _libraries(project: Project) -> Finding:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return Finding("libraries", "failed", f"{name} is not installed", "pip install featureflow")
    return Finding("libraries", "ok", ", ".join(found))


def _settings(project: Project) -> Finding:
    config = project.config
    target = f", target {project.target}" if project.target else ""
    return Finding("settings", "ok", f"project {config.project}{target}")


def _definitions(project: Project) -> Finding:
    count = len(project.written_repo.views)
    return Finding("definitions", "ok", f"{count} views, no problems")


def _registry(project: Project) -> Finding:
    applied = project.registry.applied()
    if applied is None:
        return Finding(
            "registry", "warning", f"nothing is applied yet ({project.registry.path})", "featureflow apply"
        )
    drift = project.drift()
    if drift:
        return Finding("registry", "warning", drift)
    writable = _writable(project.registry.path)
    return writable or Finding("registry", "ok", f"version {applied.version} ({project.registry.path})")


def _online(project: Project) -> Finding:
    if project.config.online_store.type == "redis":
        return _redis(project)
    path = project.root / project.config.online_store.path
    if not path.exists():
        return Finding("online store", "warning", f"no state yet ({path})", "featureflow stream --once")
    project.online.ping()
    held = size_text(project.online.bytes_held())
    return _writable(path) or Finding("online store", "ok", f"answers, holds {held}")


def _redis(project: Project) -> Finding:
    from featureflow_cli.online.redis import RedisStore

    store = project.online
    assert isinstance(store, RedisStore)
    store.ping()
    remarks = store.remarks()
    if remarks:
        return Finding("online store", "warning", "; ".join(remarks), "CONFIG SET, and in redis.conf")
    return Finding("online store", "ok", f"{store} answers, holds {size_text(store.bytes_held())}")


def _offline(project: Project) -> Finding:
    from featureflow_cli.offline.places import Folder

    place = project.offline_place
    folder = place.path if isinstance(place, Folder) else None
    if folder is not None and not folder.exists():
        return Finding("offline store", "warning", f"no events yet ({place})", "featureflow stream --once")
    events = 0
    for source in project.repo.sources.values():
        if source.streamed:
            events += sum(file.rows for file in project.log(source.name).snapshot().files)
    readonly = None if folder is None else _writable(folder)
    return readonly or Finding("offline store", "ok", f"{events:,} events ({place})")


def _sources(project: Project) -> Finding:
    empty = []
    for source in project.written_repo.sources.values():
        pattern = source.batch if kafka_of(source, project.config) else source.files or source.batch
        if pattern and "://" not in pattern and not list(project.root.glob(pattern)):
            empty.append(f"{source.name} ({pattern})")
    if empty:
        return Finding("sources", "warning", f"no files yet: {', '.join(empty)}")
    return Finding("sources", "ok", f"{len(project.written_repo.sources)} found")


def _kafka(source: str, kafka: KafkaStream, project: Project) -> Finding:
    """Of one source: whether its brokers answer, and whether its topics are as the stream needs them."""
    from featureflow_cli.sources.kafka import library_version

    check = f"kafka {source}"
    found = admin(project, kafka).describe(topics_of(kafka))
    missing = [name for name in topics_of(kafka) if name not in found]
    if missing:
        hint = "featureflow apply" if kafka.create else "create it, or give the source `kafka: {create: …}`"
        return Finding(check, "warning", f"there is no topic {' and no topic '.join(missing)}", hint)
    topic = found[kafka.topic]
    if project.registry.topics().get(source, topic.topic_id) != topic.topic_id:
        what = (
            f"topic {topic.name} was deleted and created anew: its offsets mean other events than the log's"
        )
        return Finding(check, "failed", what, "give the source another name, so that it starts afresh")
    what = f"topic {topic.name}: {partitions_text(topic.partitions)}, {topic.timestamp_type or 'settings unknown'}"
    if topic.timestamp_type not in {None, RECEIVED}:
        hint = f"message.timestamp.type={RECEIVED} has Kafka stamp them: `allowed_future` is judged by that"
        return Finding(check, "warning", what, hint)
    return Finding(check, "ok", f"{what}; librdkafka {library_version()}")


def _disk(project: Project) -> Finding:
    free = shutil.disk_usage(project.root).free
    if free < LEAST_FREE_BYTES:
        return Finding("disk", "warning", f"{size_text(free)} free under {project.root}", "make room")
    return Finding("disk", "ok", f"{size_text(free)} free")


def _engine(project: Project) -> Finding:
    with project.engine() as engine:
        (answer,) = engine.row("SELECT 1")
    assert answer == 1
    return Finding("engine", "ok", f"duckdb answers, memory limit {project.config.engine.memory_limit}")


def _writable(path: Path) -> Finding | None:
    if os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY:
        return None
    return Finding(path.name, "warning", f"{path} is read-only", "check its permissions and its mount")


CHECKS: tuple[tuple[str, Callable[[Project], Finding]], ...] = (
    ("machine", _machine),
    ("libraries", _libraries),
    ("settings", _settings),
    ("definitions", _definitions),
    ("sources", _sources),
    ("registry", _registry),
    ("online store", _online),
    ("offline store", _offline),
    ("engine", _engine),
    ("disk", _disk),
)

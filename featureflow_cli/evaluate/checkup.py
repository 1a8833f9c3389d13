"""What `doctor` looks at: each check answers by itself, and none of them changes anything of the project."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from featureflow_cli.errors import FeatureflowError
from featureflow_cli.evaluate.project import Project
from featureflow_cli.plan.costs import size_text

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
    return [_answer(name, project, check) for name, check in CHECKS]


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
    path = project.root / project.config.online_store.path
    if project.config.online_store.type == "sqlite" and not path.exists():
        return Finding("online store", "warning", f"no state yet ({path})", "featureflow stream --once")
    project.online.ping()
    held = size_text(project.online.bytes_held())
    return _writable(path) or Finding("online store", "ok", f"answers, holds {held}")


def _offline(project: Project) -> Finding:
    base = Path(project.letters_path).parent
    if not base.exists():
        return Finding("offline store", "warning", f"no events yet ({base})", "featureflow stream --once")
    events = 0
    for source in project.repo.sources.values():
        if source.streamed:
            events += sum(file.rows for file in project.log(source.name).snapshot().files)
    return _writable(base) or Finding("offline store", "ok", f"{events:,} events ({base})")


def _sources(project: Project) -> Finding:
    empty = []
    for source in project.written_repo.sources.values():
        pattern = source.files or source.batch
        if pattern and "://" not in pattern and not list(project.root.glob(pattern)):
            empty.append(f"{source.name} ({pattern})")
    if empty:
        return Finding("sources", "warning", f"no files yet: {', '.join(empty)}")
    return Finding("sources", "ok", f"{len(project.written_repo.sources)} found")


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

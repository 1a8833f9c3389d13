"""A repo on disk, applied; streams over it in this process or in one that can be killed."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featureflow_cli.apply.execute import execute
from featureflow_cli.evaluate import log as evaluated
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.stream.progress import StreamReport
from featureflow_cli.stream.run import run
from featureflow_cli.times import system_clock
from tests.integration.stream.world import FEATURES_YAML, STORE_YAML, Cells, expected_states, online_states

STREAM = """
import os, sys, threading
from featureflow_cli.evaluate.project import open_project
from featureflow_cli.stream.run import run
from featureflow_cli.times import system_clock
project = open_project(sys.argv[1], None, os.environ, system_clock)
run(project, once=True, stop=threading.Event(), batch_rows=int(sys.argv[2]))
"""


def write_repo(folder: Path, features: str = FEATURES_YAML, store: str = STORE_YAML) -> Project:
    """Write and apply a repo, and open it."""
    (folder / "features").mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(store)
    (folder / "features" / "all.yaml").write_text(features)
    return reapplied(folder)


def reapplied(folder: Path) -> Project:
    project = opened(folder)
    execute(project, project.plan(), applied_by="test", report=lambda line: None)
    return opened(folder)


def opened(folder: Path) -> Project:
    return open_project(folder, None, {}, system_clock)


def put(folder: Path, name: str, events: Sequence[dict[str, Any] | bytes]) -> Path:
    """A new file of events, whole at once."""
    path = folder / "events" / f"{name}.ndjson"
    path.parent.mkdir(exist_ok=True)
    lines = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(b"".join(line + b"\n" for line in lines))
    unfinished.rename(path)
    return path


def drained(folder: Path, batch_rows: int = 100_000) -> StreamReport:
    """One `stream --once`, as a process that starts afresh would do it."""
    project = opened(folder)
    try:
        return run(project, once=True, stop=threading.Event(), batch_rows=batch_rows)
    finally:
        project.online.close()


def start(folder: Path, batch_rows: int) -> "subprocess.Popen[bytes]":
    """The same in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", STREAM, str(folder), str(batch_rows)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )


def kept_views(project: Project) -> dict[str, Kept]:
    builds = project.builds()
    return {name: Kept(view, builds[name]) for name, view in project.repo.views.items()}


def positions(project: Project, source: str) -> list[tuple[int, int]]:
    """Where the rows of the log came from."""
    with project.engine() as engine:
        relation = evaluated.accepted(engine, project.repo.sources[source], project.log(source).snapshot())
        rows = engine.table(f"SELECT _partition, _offset FROM {relation} ORDER BY ALL")
    return list(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))


def states(project: Project) -> dict[str, Cells]:
    """The online cells of every view."""
    return {name: online_states(project.online, kept) for name, kept in kept_views(project).items()}


def assert_online_is_the_log(project: Project) -> None:
    """Every view's states are those of the log's events, each once."""
    with project.engine() as engine:
        for name, kept in kept_views(project).items():
            source = kept.view.source
            relation = evaluated.accepted(engine, source, project.log(source.name).snapshot())
            assert online_states(project.online, kept) == expected_states(engine, relation, kept), name

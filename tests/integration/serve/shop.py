"""The example shop with streamed events, and its server as a process of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from featureflow_cli.apply.execute import execute
from featureflow_cli.compute.views import Service
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.spec.types import ColumnType, Value
from featureflow_cli.stream.run import run
from featureflow_cli.times import DAY_US, system_clock
from tests.laws.telling import Told
from tests.repos import deliveries
from tests.repos.deliveries import Delivery

ROOT = Path(__file__).parents[3]
SERVE = "import sys; from featureflow_cli.cli.main import main; main()"
START_S = 60.0


@dataclass(frozen=True)
class Shop:
    """`delivered` was streamed, all of it; `end_us` is just past the newest event."""

    root: Path
    delivered: Sequence[Delivery]

    @property
    def end_us(self) -> int:
        return max(each.ts_us for each in self.delivered) + 1

    def project(self) -> Project:
        return open_project(self.root, None, {}, system_clock)

    def told(self, service: Service) -> Told:
        once = {each.event["event_id"]: each.event for each in self.delivered}
        return Told(service, {"user_events": list(once.values())})

    def apply(self) -> None:
        project = self.project()
        execute(project, project.plan(), applied_by="test", report=lambda line: None)

    def stream(self) -> None:
        project = self.project()
        run(project, once=True, stop=threading.Event())
        project.online.close()

    def copy(self, to: Path) -> "Shop":
        shutil.copytree(self.root, to)
        return Shop(to, self.delivered)


def make_shop(root: Path, events: int) -> Shop:
    shutil.copytree(ROOT / "example_repo", root, ignore=shutil.ignore_patterns("data"))
    shop = Shop(root, deliveries.shop(events, 7 * DAY_US))
    shop.apply()
    deliveries.put(root, "000", shop.delivered)
    shop.stream()
    return shop


class Server:
    """`featureflow serve --port 0` for the length of a `with`, entered once it is ready."""

    def __init__(self, root: Path, *words: str, ready: bool = True) -> None:
        self._command = [sys.executable, "-c", SERVE, "-c", str(root), "serve", "--port", "0", *words]
        self._ready = ready

    def __enter__(self) -> "Server":
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, env=environ)
        assert self.process.stderr is not None
        said = ""
        while (found := re.search(r"http://127\.0\.0\.1:\d+", said)) is None:
            line = self.process.stderr.readline()
            assert line, f"the server ended: {said}"
            said += line
        self.http = httpx.Client(base_url=found[0], timeout=30)
        # Nobody may block on a full pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        if self._ready:
            self.wait(lambda: self.http.get("/ready").status_code == 200)
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def wait(self, condition: Any) -> None:
        """Until the condition holds; a server that is not up yet does not fulfil it."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the server did not get there"
            time.sleep(0.02)

    def vector(self, body: Mapping[str, Any]) -> httpx.Response:
        return self.http.post("/features/vector", json=body)


def read_back(features: Mapping[str, Any], service: Service) -> dict[str, Value]:
    """Features as JSON has them, in their types."""
    return {name: _typed(features[name], column_type) for name, column_type in service.outputs}


def _typed(value: Any, column_type: ColumnType) -> Value:
    if value is None:
        return None
    if column_type.element is not None:
        return tuple(_typed(each, column_type.element) for each in value)
    if column_type.name == "decimal":
        assert isinstance(value, str)
        return Decimal(value)
    return value  # type: ignore[no-any-return]


def golden(name: str, actual: object) -> None:
    """Compares with golden/NAME; UPDATE_GOLDEN=1 writes the file first, to be looked at."""
    path = Path(__file__).parent / "golden" / name
    text = json.dumps(actual, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; UPDATE_GOLDEN=1 accepts it"

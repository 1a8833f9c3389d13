"""docker-compose.yml and monitoring/: well-formed, and about metrics and versions that exist."""

import json
import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest

from featureflow_cli.serve.metrics import Metrics
from featureflow_cli.stream.metrics import StreamCollector
from tests.services import jars

CHECKOUT = Path(__file__).resolve().parents[2]
MONITORING = CHECKOUT / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana/dashboards/featureflow.json").read_text())
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())


def _metrics() -> set[str]:
    """Every name that the server and the stream answer with; a histogram's has three endings."""
    stream = CollectorRegistry()
    stream.register(StreamCollector({}, lambda: 0))
    text = (Metrics().text() + generate_latest(stream)).decode()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= {f"{name}_{end}" for end in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def test_the_dashboard_asks_for_metrics_that_exist_and_for_all_that_matter() -> None:
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"featureflow_\w+", target["expr"])
    }
    assert asked - _metrics() == set()
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    known = {re.sub(r"_(bucket|sum|count)$", "", name) for name in _metrics()}
    assert known - shown == {"featureflow_stream_newest_event_seconds"}, "a metric that no panel shows"


def test_the_dashboard_asks_the_provisioned_datasource() -> None:
    [source] = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    asked = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}
    assert asked == {source["uid"]}


def test_compose_mounts_files_that_exist_and_runs_the_kafka_that_is_tested() -> None:
    mounts = [
        mount for service in COMPOSE["services"].values() for mount in service["volumes"] if mount[0] == "."
    ]
    assert len(mounts) == 3
    assert [mount for mount in mounts if not (CHECKOUT / mount.split(":")[0]).exists()] == []
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{jars.version()}"


def test_compose_keeps_every_published_port_on_loopback() -> None:
    """Nothing here asks for a password."""
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_redis_is_run_as_the_store_needs_it() -> None:
    words = COMPOSE["services"]["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"
    assert options["--hash-max-listpack-value"] == "1024"

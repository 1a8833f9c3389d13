"""Several workers as one command: they share a topic, are started again when killed, and stop together."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.kafka.crash_law import check, featureflow, is_committed, messages, produce, shop
from tests.services.kafka import Kafka
from tests.services.processes import free_port, wait_until


@contextmanager
def fleet(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Two workers under one parent, which is stopped by force at the end, if it still runs."""
    command = [
        sys.executable,
        "-m",
        "featureflow_cli",
        "--chdir",
        folder,
        "stream",
        "--workers",
        "2",
        *options,
    ]
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def children(process: "subprocess.Popen[str]") -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def scraped(port: int, name: str) -> float:
    """The sum of a metric's samples, if the worker answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return sum(
                sample.value for family in families for sample in family.samples if sample.name == name
            )
    except OSError:
        return -1


def test_a_killed_worker_is_replaced_and_all_stop_together(
    tmp_path: Path, kafka: Kafka, redis_url: str
) -> None:
    topic, port = kafka.topic(4), free_port()
    project = shop(tmp_path, kafka, topic, redis_url)
    events = messages(tmp_path, 6_000, seed=7, users=200)
    produce(kafka, topic, events[:3_000])
    with fleet(tmp_path, "--metrics-port", str(port)) as process:
        wait_until(lambda: is_committed(project, kafka, topic), "the first events are committed", 60)
        assert sum(scraped(port + number, "featureflow_stream_taken_up_total") for number in range(2)) == 2
        before = children(process)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(children(process) - before) == 1, "another worker is started", 30)
        produce(kafka, topic, events[3_000:])
        wait_until(lambda: is_committed(project, kafka, topic), "the rest is committed", 60)
        last = children(process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, (tmp_path / "said").read_text()
    assert "(stopped)" in output
    assert not any(map(is_alive, last))
    assert "killed by signal 9; starting another" in (tmp_path / "said").read_text()
    check(project, kafka, topic)


def test_workers_whose_parent_is_gone_stop_by_themselves(
    tmp_path: Path, kafka: Kafka, redis_url: str
) -> None:
    topic = kafka.topic(2)
    project = shop(tmp_path, kafka, topic, redis_url)
    produce(kafka, topic, messages(tmp_path, 500, seed=8, users=50))
    with fleet(tmp_path) as process:
        wait_until(lambda: is_committed(project, kafka, topic), "the events are committed", 60)
        workers = children(process)
        process.kill()
        wait_until(lambda: not any(map(is_alive, workers)), "its workers are gone", 30)
    check(project, kafka, topic)


def test_an_apply_reaches_all_workers(tmp_path: Path, kafka: Kafka, redis_url: str) -> None:
    """Of a view that changes under way, both states are built side by side, and nobody leaves the group."""
    topic = kafka.topic(4)
    project = shop(tmp_path, kafka, topic, redis_url)
    events = messages(tmp_path, 4_000, seed=9, users=200)
    produce(kafka, topic, events[:2_000])
    with fleet(tmp_path) as process:
        wait_until(lambda: is_committed(project, kafka, topic), "the first events are committed", 60)
        wait_until(lambda: len(group_members(kafka)) == 2, "those of other tests have left the group", 60)
        members = group_members(kafka)
        path = tmp_path / "features" / "users.yaml"
        changed = path.read_text().replace("ttl: 30d", "ttl: 20d")
        assert changed != path.read_text()
        path.write_text(changed)
        featureflow(tmp_path, "apply", "--yes")
        produce(kafka, topic, events[2_000:])

        def serves() -> bool:
            builds = project.registry.builds()
            return [
                build.version
                for build in builds
                if build.view == "user_activity" and build.status == "serving"
            ] == [2]

        wait_until(serves, "the changed view serves", 60)
        wait_until(lambda: is_committed(project, kafka, topic), "the rest is committed", 60)
        assert group_members(kafka) == members
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0, (tmp_path / "said").read_text()
    project.relearn()
    check(project, kafka, topic)


def group_members(kafka: Kafka) -> set[str]:
    (described,) = kafka.admin.describe_consumer_groups(["featureflow.shop.user_events"]).values()
    return {member.member_id for member in described.result(30).members}

"""What a scrape of a stream says is what its Progress counted."""

import urllib.request
from collections import Counter
from dataclasses import asdict

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from featureflow_cli.stream.metrics import StreamCollector, expose
from featureflow_cli.stream.progress import STEP_BOUNDS, Histogram, Progress, together
from featureflow_cli.stream.progress import report as report_of
from tests.services.processes import free_port


def test_a_scrape_tells_what_was_counted() -> None:
    progress = Progress("events", accepted=7, duplicates=2, letters=Counter({"wrong_type": 3}), conflicts=1)
    progress.steps["write"] = Histogram(STEP_BOUNDS)
    progress.steps["write"].observe(0.02)
    progress.readable(np.array([0, 900_000], np.int64), 1_000_000)
    progress.behind = {0: 5, 1: 0}
    port = free_port()
    close = expose(port, "127.0.0.1", StreamCollector({"events": progress}, lambda: 4_096))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        close()
    found = {
        (
            sample.name,
            *(value for key, value in sorted(sample.labels.items()) if key != "source"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["featureflow_stream_events_total", "accepted"] == 7
    assert found["featureflow_stream_events_total", "letter"] == 3
    assert found["featureflow_stream_dead_letters_total", "wrong_type"] == 3
    assert found["featureflow_stream_conflicts_total",] == 1
    assert found["featureflow_stream_batch_seconds_bucket", "0.025", "write"] == 1
    assert found["featureflow_stream_batch_seconds_bucket", "0.01", "write"] == 0
    assert found["featureflow_stream_freshness_seconds_bucket", "0.1"] == 1
    assert found["featureflow_stream_freshness_seconds_count",] == 2
    assert found["featureflow_stream_lag", "0"] == 5
    assert found["featureflow_stream_state_bytes",] == 4_096


def test_a_counter_does_not_fall_while_a_batch_is_taken_back() -> None:
    progress = Progress("events")
    collector = StreamCollector({"events": progress}, lambda: 0)
    told = []
    for accepted, wrong in ((7, 3), (0, 0), (7, 3), (9, 3)):
        progress.accepted, progress.letters = accepted, Counter({"wrong_type": wrong})
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in collector.collect()
            for sample in family.samples
        }
        told.append(
            (
                found["featureflow_stream_events_total", "events", "accepted"],
                found["featureflow_stream_dead_letters_total", "events", "wrong_type"],
            )
        )
    assert told == [(7, 3), (7, 3), (7, 3), (9, 3)]


def test_reports_of_several_workers_add_up() -> None:
    one = Progress("events", accepted=7, letters=Counter({"future": 1}), bootstrapped=["users"])
    other = Progress(
        "events", accepted=5, letters=Counter({"future": 2, "wrong_type": 1}), bootstrapped=["users"]
    )
    (sum_,) = together([{"sources": [asdict(report_of(some))]} for some in (one, other)])
    assert (sum_.accepted, sum_.read, sum_.letters) == (12, 16, {"future": 3, "wrong_type": 1})
    assert sum_.bootstrapped == ("users",)

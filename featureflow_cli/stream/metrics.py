"""What a stream counts, in Prometheus' words: read from its Progress when somebody asks, at no cost to a batch."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.stream.deciding import LATE_US
from featureflow_cli.stream.progress import Histogram, Progress
from featureflow_cli.times import SECOND_US

_EVENTS = ("accepted", "duplicate", "late", "letter", "before_until", "replayed", "lost")
_SIZED_EVERY_S = 60.0


class StreamCollector(Collector):
    """The metrics of one process' sources; `state_bytes` is asked for once a minute, by a scrape."""

    def __init__(self, progress: Mapping[str, Progress], state_bytes: Callable[[], int]) -> None:
        self._progress = progress
        self._state_bytes = state_bytes
        self._sized_at, self._size = 0.0, 0
        self._told: dict[tuple[str, str, str], int] = {}

    def collect(self) -> Iterable[Metric]:
        events = CounterMetricFamily(
            "featureflow_stream_events",
            "Events decided, by what became of them. Late ones are among the accepted: more than"
            f" {LATE_US // SECOND_US} s older than the newest event before their batch.",
            labels=["source", "outcome"],
        )
        letters = CounterMetricFamily(
            "featureflow_stream_dead_letters", "Dead letters by reason.", labels=["source", "reason"]
        )
        writes = CounterMetricFamily(
            "featureflow_stream_writes", "Hashes written to the online store.", labels=["source"]
        )
        conflicts = CounterMetricFamily(
            "featureflow_stream_conflicts", "Writes that lost a race and were made again.", labels=["source"]
        )
        committed = CounterMetricFamily(
            "featureflow_stream_committed", "Rows committed to the offline log.", labels=["source"]
        )
        taken_up = CounterMetricFamily(
            "featureflow_stream_taken_up", "How often all was taken up from the stores.", labels=["source"]
        )
        seconds = HistogramMetricFamily(
            "featureflow_stream_batch_seconds",
            "Time of one step of a batch: replay, poll, write, mark, commit; and how long the batch before it was"
            " waited for: send (until all of it was sent), wait (until it was written).",
            labels=["source", "step"],
        )
        freshness = HistogramMetricFamily(
            "featureflow_stream_freshness_seconds",
            "From an event's own time to the moment when it can be read online.",
            labels=["source"],
        )
        lag = GaugeMetricFamily(
            "featureflow_stream_lag",
            "Events in the topic that were not read yet.",
            labels=["source", "partition"],
        )
        newest = GaugeMetricFamily(
            "featureflow_stream_newest_event_seconds",
            "Unix time of the newest event accepted.",
            labels=["source"],
        )
        for name, source in list(self._progress.items()):
            counts = (source.accepted, source.duplicates, source.late, source.letters.total(),
                      source.before_until, source.replayed, source.lost)  # fmt: skip
            for outcome, count in zip(_EVENTS, counts, strict=True):
                events.add_metric([name, outcome], self._most("events", name, outcome, count))
            for reason, count in list(source.letters.items()):
                letters.add_metric([name, reason], self._most("letters", name, reason, count))
            for family, count in ((writes, source.writes), (conflicts, source.conflicts),
                                  (committed, source.committed), (taken_up, source.taken_up)):  # fmt: skip
                family.add_metric([name], count)
            for step, histogram in list(source.steps.items()):
                seconds.add_metric([name, step], *_buckets(histogram))
            freshness.add_metric([name], *_buckets(source.freshness))
            for partition, count in source.behind.items():
                lag.add_metric([name, str(partition)], count)
            if source.newest_us is not None:
                newest.add_metric([name], source.newest_us / 1e6)
        yield from (events, letters, writes, conflicts, committed, taken_up, seconds, freshness, lag, newest)
        yield GaugeMetricFamily(
            "featureflow_stream_state_bytes",
            "Approximate size of the online states.",
            value=self._sized(),
        )

    def _most(self, metric: str, source: str, of: str, count: int) -> int:
        """A count that was taken back comes again: Prometheus would take one that falls for a restart's."""
        key = metric, source, of
        self._told[key] = max(count, self._told.get(key, 0))
        return self._told[key]

    def _sized(self) -> int:
        now = time.monotonic()
        if not self._sized_at or now - self._sized_at > _SIZED_EVERY_S:
            with suppress(StoreUnavailable):  # the last size is better than no metrics
                self._size = self._state_bytes()
            self._sized_at = now
        return self._size


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts.tolist()), strict=True)), histogram.sum


def expose(port: int, host: str, collector: Collector) -> Callable[[], None]:
    """Answer scrapes at http://host:port/metrics from a thread of its own; the answer ends that."""
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(port, host, registry=registry)

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close

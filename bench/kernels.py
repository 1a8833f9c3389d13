"""CPU microseconds an event of each step of the stream's computation, in one process: the shop's events as JSON
messages (the Kafka case), batch by batch, into an online store that costs nothing and a real offline log. The
floor parses the JSON and does no more.

    python bench/kernels.py --events 500000 --batch 100000
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
from report import Figure, report

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.codes import Bools
from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.views import Repo
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.generate.files import generate
from featureflow_cli.generate.shop import Scale
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.online.store import Held, OnlineStore, Send, Writes, at_once
from featureflow_cli.plan.applied import Build
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.verdicts import Memory
from featureflow_cli.spec.repo import load
from featureflow_cli.stream import deciding, merging, seeing
from featureflow_cli.stream.resident import Resident
from featureflow_cli.stream.writing import ended
from featureflow_cli.times import parse_duration, parse_timestamp, system_clock

END = "2026-06-01T00:00:00Z"
REPO = Path(__file__).resolve().parents[1] / "example_repo"
STEPS: tuple[tuple[Any, str], ...] = (
    (deciding, "decode_all"),
    (deciding, "judge_each"),
    (Memory, "remember"),
    (deciding, "decided"),
    (seeing, "project"),
    (seeing, "see"),
    (Resident, "fetch"),
    (codec, "decode"),
    (state, "lift"),
    (state, "merge"),
    (codec, "encode"),
    (merging, "_writes"),
    (Resident, "remember"),
    (OfflineLog, "append"),
)
"""Functions that are timed, each without those of the others that it calls."""


class Clock:
    """Seconds by step: a step that calls another stops meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    def timed(self, holder: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(holder, name)
        label = f"{holder.__name__.removeprefix('featureflow_cli.')}.{name}"
        self.seconds[label] = 0.0

        @wraps(call)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            started = time.process_time()
            self._inside.append(0.0)
            try:
                return call(*arguments, **named)
            finally:
                taken = time.process_time() - started
                self.seconds[label] += taken - self._inside.pop()
                if self._inside:
                    self._inside[-1] += taken

        setattr(holder, name, wrapped)


class Nowhere:
    """An online store that holds nothing and takes everything."""

    shards = 1

    def read(self, entity: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        return [Held(None, (None,) * len(fields)) for _ in ids]

    def write(self, entity: str, fields: Sequence[str], writes: Writes) -> Bools:
        return np.ones(len(writes), np.bool_)

    def sending(self) -> AbstractContextManager[Send]:
        return at_once(self.write)


class Stream:
    """The steps of stream/worker.py on one partition, without what makes them exact."""

    def __init__(self, repo: Repo, folder: Path) -> None:
        self.source = repo.sources["user_events"]
        self.members = [
            Kept(view, Build(number, view.name, view.entity, view.fingerprint, 1, "serving", {}, 0))
            for number, view in enumerate(repo.views.values())
        ]
        self.residents = {
            entity: Resident([kept for kept in self.members if kept.view.entity == entity], 2**30)
            for entity in dict.fromkeys(view.entity for view in repo.views.values())
        }
        self.memory = Memory(self.source.dedupe_within_us)
        self.engine = Engine()
        self.log = OfflineLog(str(folder / "log"), self.source)
        self.base = self.log.raise_meaning(self.log.snapshot())

    def batch(self, messages: Sequence[bytes], start: int) -> None:
        spans = {0: (start, start + len(messages))}
        raw = RawBatch(messages, np.arange(*spans[0]), spans[0][1], parse_timestamp(END))
        batch = deciding.decided({0: [raw]}, spans, self.source, {0: self.memory}, 0)
        sight = seeing.see(self.engine, batch.rows, self.members)
        entities = [
            (resident, [seen for seen in sight.seen if seen.kept.view.entity == entity])
            for entity, resident in self.residents.items()
        ]
        store = cast("OnlineStore", Nowhere())  # all of it that is used here
        ended(merging.write_states(store, entities, spans, system_clock))
        self.base = self.log.append(batch.rows, spans, self.base)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    arguments = parser.parse_args()
    messages = shop_messages(arguments.events, arguments.users)
    loaded = load(REPO, None, {})
    clock = Clock()
    for step in STEPS:
        clock.timed(*step)
    with tempfile.TemporaryDirectory() as folder:
        gc.freeze()  # no stream holds all its messages at once: the collector is not to walk through them
        stream = Stream(compile_repo(loaded.config, loaded.definitions), Path(folder))
        started = time.process_time()
        for start in range(0, len(messages), arguments.batch):
            stream.batch(messages[start : start + arguments.batch], start)
        whole = time.process_time() - started
    count = len(messages)
    seconds = clock.seconds | {"all": whole}
    figures = [
        Figure(f"{name} ({each / count * 1e6:.2f} us)", count, "events", each)
        for name, each in seconds.items()
    ]
    report("kernels", [Figure("parse the JSON", count, "events", floor(messages), floor=True), *figures])


def shop_messages(events: int, users: int) -> list[bytes]:
    """The shop's deliveries, of so many users and 2,000 items in seven days."""
    span, end = parse_duration("7d"), parse_timestamp(END)
    with tempfile.TemporaryDirectory() as folder:
        scale = Scale(events=events, users=users, items=2_000, span_us=span, end_us=end)
        (path,) = generate(scale, Path(folder), format="ndjson", files=1).files
        return path.read_bytes().splitlines()


def floor(messages: Sequence[bytes]) -> float:
    started = time.process_time()
    for message in messages:
        orjson.loads(message)
    return time.process_time() - started


if __name__ == "__main__":
    main()

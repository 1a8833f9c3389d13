"""The world of one schedule: a topic, a store of several shards, tables, a registry, and processes that stream.

Each process runs the production verb (`stream.run.run`) as it is; only what it calls is a stand-in's. Tokens move
processes on, or make something happen to the world; at the end all is mended, and everybody goes on until nothing
is left to do. Then the laws must hold (laws.py).
"""

import sqlite3
from collections import Counter
from collections.abc import Callable
from random import Random

from featureflow_cli.errors import Conflict, StoreUnavailable
from featureflow_cli.plan.applied import Build, ViewState
from featureflow_cli.plan.registry import Registry
from featureflow_cli.plan.registry_file import MIGRATIONS
from featureflow_cli.stream.run import run
from featureflow_cli.times import HOUR_US, SECOND_US, parse_timestamp
from tests.simulation.definitions import variants
from tests.simulation.grounds import SimProject, registry
from tests.simulation.laws import Broken, honest
from tests.simulation.processes import How, Process
from tests.simulation.promises import Promises
from tests.simulation.schedules import Schedule, Token
from tests.simulation.shards import Cluster, Server
from tests.simulation.tables import Disk
from tests.simulation.topic import Member, Record, Topic

START_US = parse_timestamp("2026-01-01")
LONGEST = 10_000
"""Steps that all processes together may need to come to rest."""
HOWS = tuple(How)
QUIET = ("ping", "read", "wait", "look at", "open")
"""What a story leaves out, unless something happens to it."""


class World:
    def __init__(self, schedule: Schedule, promises: Promises = Promises(), tells: bool = False) -> None:  # noqa: B008
        self.settings = settings = schedule.settings
        self.now_us = START_US
        self.trace: list[str] | None = [] if tells else None
        self.counts: Counter[str] = Counter()
        self.topic = Topic(settings.partitions, settings.processes, promises)
        self.cluster = Cluster(
            [[Server()] for _ in range(settings.shards)],
            lambda: self.now_us,
            promises,
            written=lambda entity, id, held: honest(self, entity, id, held),
        )
        self.disk = Disk(serial=promises.snapshot)
        self.registry_db = _registry_db()
        self.registry: Registry = registry(self.registry_db, lambda _: How.WELL)
        self.variant = ""
        self.apply("old/")
        self.meanings = 1
        self._chance = Random(schedule.seed)
        self._members: dict[int, Member] = {}
        self._idle = [0] * settings.processes
        self._seen = -1
        self._once = self.is_mended = False
        self.processes = [self._start(slot) for slot in range(settings.processes)]

    # ---- processes

    def clock_of(self, slot: int) -> int:
        return self.now_us + (self.settings.skew_us if slot == 1 else 0)

    def join(self, slot: int, pause: Callable[[str], How]) -> Member:
        """A new member of the group, in the place of the process's last one."""
        self._members[slot] = Member(self.topic, slot, pause, Random(self._chance.random()), self.is_slow)
        return self._members[slot]

    def is_slow(self) -> bool:
        """Whether a read may leave out what there is."""
        return not self.is_mended and self._chance.random() < 0.2

    def _start(self, slot: int) -> Process:
        once = self._once

        def main(process: Process) -> None:
            project = SimProject(self, slot, process.pause)
            run(project, once=once, stop=_Stop(process, self, slot), batch_rows=self.settings.rows)

        return Process(f"w{slot}", main, self._chance)

    def _step(self, slot: int, how: How = How.WELL) -> None:
        process = self.processes[slot]
        self.now_us += SECOND_US // 20
        if how is not How.WELL:
            self.counts[how.value] += 1
            self.say(f"{process.name}: {process.at}: {how.value}")
        elif not process.at.startswith(QUIET):
            self.say(f"{process.name}: {process.at}")
        process.step(how)
        if process.is_over:
            self._ended(slot, process)

    def _ended(self, slot: int, process: Process) -> None:
        """It failed, and somebody starts it again; or it was told to end once there is nothing left."""
        failure = process.failure
        if failure is None and self._once:
            return
        if not isinstance(failure, StoreUnavailable | Conflict):
            raise failure if failure is not None else AssertionError("the stream ended by itself")
        self.counts[f"gave up: {type(failure).__name__}"] += 1
        self.say(f"{process.name} gives up: {failure!r}")
        self.processes[slot] = self._start(slot)

    def is_idle(self, slot: int) -> None:
        """The process has found nothing to do, in a whole round."""
        changes = self.cluster.changes + self.disk.changes
        if changes != self._seen:
            self._seen, self._idle = changes, [0] * len(self._idle)
        self._idle[slot] += 1

    # ---- tokens

    def play(self, token: Token) -> None:
        kind, numbers = token
        self.counts[kind] += 1
        if kind == "run":
            slot, steps, how = numbers
            for step in range(steps):
                self._step(slot, HOWS[how] if step == steps - 1 else How.WELL)
            return
        getattr(self, f"_{kind}")(*numbers)

    def _put(self, user: int, item: int, late: int, again: int, lacks: int, which: int) -> None:
        partition = user % len(self.topic.records)
        records = self.topic.records[partition]
        at_us = self.now_us - late * HOUR_US
        name = ("", "user", "old", "new")[lacks]
        record = Record(f"e{partition}.{len(records)}", user, item, at_us, self.now_us, name)
        if again and records:
            record = records[-1 - which % len(records)]
            moved_us = (0, 0, 3)[which % 3] * HOUR_US
            record = record._replace(at_us=record.at_us + moved_us, recorded_us=self.now_us)
        records.append(record)
        self.say(f"p{partition}:{len(records) - 1} is {record}")

    def _tick(self, which: int, *_: int) -> None:
        self.now_us += (1, 3, 70, 3_600, 2 * 3_600, 15 * 3_600, 27 * 3_600, 40 * 3_600)[which % 8] * SECOND_US
        self.say(f"the time is {(self.now_us - START_US) / HOUR_US:.2f} h")

    def _kill(self, which: int, *_: int) -> None:
        slot = which % len(self.processes)
        self.say(f"w{slot} is killed where it is about to {self.processes[slot].at}, and starts again")
        self.processes[slot].kill()
        self.processes[slot] = self._start(slot)

    def _move(self, partition: int, slot: int, *_: int) -> None:
        partition %= len(self.topic.records)
        self.topic.owners[partition] = slot % len(self.processes)
        self.say(f"the group gives p{partition} to w{self.topic.owners[partition]}")

    def _beat(self, which: int, *_: int) -> None:
        slot = which % len(self.processes)
        if slot in self._members:
            self._members[slot].is_due = True
        self.say(f"w{slot} will hear of the group")

    def _lose(self, shard: int, lost: int, lives_on: int) -> None:
        shard %= self.settings.shards
        if lives_on % 5 == 4:
            self.cluster.empty(shard)
            self.say(f"shard {shard} is emptied")
            return
        count = (None, 0, 1, 2, 3, 5, 9)[lost % 7]
        self.cluster.fail_over(shard, count, lives_on % 5 < 2)
        self.say(
            f"shard {shard} loses {count} changes{', its old master lives on' if lives_on % 5 < 2 else ''}"
        )

    def _cut(self, *_: int) -> None:
        self.cluster.cut()
        self.say("old masters are cut off")

    def _arrive(self, which: int, *_: int) -> None:
        if self.cluster.late:
            self.cluster.arrive(which)
            self.say("a late call arrives")

    def _grow(self, which: int, *_: int) -> None:
        if len(self.topic.records) < 4:
            self.topic.grow()
            self.topic.owners[len(self.topic.records) - 1] = which % len(self.processes)
            self.say(f"the topic has {len(self.topic.records)} partitions")

    def _trim(self, partition: int, which: int, *_: int) -> None:
        """Retention passes what the log has, never more."""
        partition %= len(self.topic.records)
        end = self.ends().get(partition, 0)
        self.topic.first[partition] = max(self.topic.first[partition], end - (0, 0, 1, 2)[which % 4])
        self.say(f"Kafka keeps p{partition} from {self.topic.first[partition]}")

    def _forget(self, partition: int, *_: int) -> None:
        self.topic.reported.pop(partition % len(self.topic.records), None)

    def _apply(self, which: int, meaning: int, *_: int) -> None:
        """Another variant of the definitions; its meaning changes now and then."""
        old, _, entity = self.variant.partition("/")
        entities = ("", "user", "item")
        entity = entities[(entities.index(entity) + 1 + which % 2) % 3]
        if meaning % 3 == 0:
            old = "new" if old == "old" else "old"
            self.meanings += 1
        self.apply(f"{old}/{entity}")
        self.say(f"{self.variant} is applied")

    def apply(self, variant: str) -> None:
        """What `featureflow apply` notes in the registry."""
        self.variant = variant
        states = [
            ViewState(view.name, view.entity, view.fingerprint) for view in variants()[variant].views.values()
        ]
        applied = self.registry.applied()
        self.registry.record(
            definitions=variant, allowed_future_us=0, views=states, applied_by="test", at_us=self.now_us,
            expected_version=applied.version if applied else 0, summary="",
        )  # fmt: skip

    def builds(self) -> list[Build]:
        return self.registry.builds()

    # ---- the end

    def come_to_rest(self, anew: bool) -> None:
        """No more faults: everybody hears everything and goes on until nothing is left to do.

        `anew`: new processes, which end by themselves once they have found nothing.
        """
        self.say(f"--- no more faults{', all start anew' if anew else ''}")
        self.is_mended = True
        self.cluster.cut()
        while self.cluster.late:
            self.cluster.arrive(0)
        self._once, self._idle, self._seen = anew, [0] * len(self.processes), -1
        for slot in range(len(self.processes)):
            if anew:
                self.processes[slot].kill()
                self.processes[slot] = self._start(slot)
            elif slot in self._members:
                self._members[slot].is_due = True
        for _ in range(LONGEST):
            running = [slot for slot, process in enumerate(self.processes) if not process.is_over]
            if not running or (not anew and min(self._idle) >= 3):
                return
            self._step(self._chance.choice(running))
        message = "liveness: no end in sight"
        raise Broken(message)

    def ends(self) -> dict[int, int]:
        """The log's."""
        versions = self.disk.tables.get("events", [])
        held = versions[-1].transactions if versions else {}
        return {
            int(n): end
            for n, end in ((name.partition("/")[2], end) for name, end in held.items())
            if n != "partitions"
        }

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.registry_db.close()

    def say(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(text)


class _Stop:
    """`stream.run.Stop`: never set; who waits stands still, and time goes on."""

    def __init__(self, process: Process, world: World, slot: int) -> None:
        self._process = process
        self._world = world
        self._slot = slot

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        if timeout == 1.0:
            self._world.is_idle(self._slot)
            self._process.pause("wait for news")
        else:
            self._process.pause("wait for a store")
        self._world.now_us += (6 if self._world.is_mended else 2) * SECOND_US
        return False


def _registry_db() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in MIGRATIONS:
        connection.executescript(script)
    return connection

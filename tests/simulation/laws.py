"""What must hold, in plain words over plain numbers: it knows nothing of how workers work (design.md 1 and 4)."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from featureflow_cli.compute import codec
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.views import View
from featureflow_cli.plan.applied import Build
from featureflow_cli.times import HOUR_US
from tests.simulation.definitions import AHEAD_US, PARTITION_NUMBERS, RUNG_US, TTL_US, WITHIN_US, variants
from tests.simulation.shards import Hash
from tests.simulation.topic import Record

if TYPE_CHECKING:
    from tests.simulation.world import World

Position = tuple[int, int]
LAWS = ("header", "letters", "liveness", "log", "online")
NEVER_US = -(2**62)


class Broken(Exception):
    """A law does not hold: its message begins with which of LAWS."""


def fates(records: list[list[Record]]) -> dict[Position, str]:
    """What becomes of each event under the meaning `old`: a function of the records alone (1.6, 1.7)."""
    found = {}
    for partition, some in enumerate(records):
        remembered: dict[str, int] = {}
        newest_us = NEVER_US
        for offset, record in enumerate(some):
            if record.lacks in {"user", "old"} or record.at_us > record.recorded_us + AHEAD_US:
                found[partition, offset] = "letter"
            elif remembered.get(record.id, 2 * NEVER_US) >= newest_us - WITHIN_US:
                found[partition, offset] = "duplicate"
            else:
                found[partition, offset] = "accepted"
                remembered[record.id], newest_us = record.at_us, max(newest_us, record.at_us)
    return found


def logged(world: "World") -> list[Position]:
    """The rows of the log, as often as they are in it."""
    return [
        position
        for table in world.disk.rows("events")
        for position in zip(
            table.column("_partition").to_pylist(), table.column("_offset").to_pylist(), strict=True
        )
    ]


def lettered(world: "World") -> list[Position]:
    return [
        position
        for table in world.disk.rows("dead-letters")
        for position in zip(
            table.column("partition").to_pylist(), table.column("offset").to_pylist(), strict=True
        )
    ]


def accepted(world: "World") -> dict[Position, Record]:
    """The events that count: by the records alone or, once the meaning has changed, by what the log says."""
    if world.meanings > 1:
        return {(p, o): world.topic.records[p][o] for p, o in logged(world)}
    found = fates(world.topic.records)
    return {(p, o): world.topic.records[p][o] for (p, o), fate in found.items() if fate == "accepted"}


def contents(view: View, blob: bytes) -> tuple[dict[Position, dict[int, int]], dict[int, int]]:
    """A state: per event how often it was counted in each tile; and its header."""
    states, ends = codec.decode(view, packed([blob]))
    cells = states.columns[1]
    held: dict[Position, dict[int, int]] = {}
    for tile, number, count in zip(
        cells.tile.tolist(), cells.key.tolist(), cells.value.tolist(), strict=True
    ):
        held.setdefault(divmod(number, PARTITION_NUMBERS), {})[tile] = count
    return held, dict(zip(ends.partition.tolist(), ends.end.tolist(), strict=True))


def honest(world: "World", entity: str, id: str, held: Hash) -> None:
    """A header's claim, at every write: the state is exactly the accepted events of its entity below it.

    Of the view `uh`, which forgets nothing.
    """
    if entity != "user" or world.meanings > 1:
        return
    view = variants()["old/"].views["uh"]
    build = next(build for build in world.builds() if build.view == "uh")
    blob = held.blobs.get(build.field)
    if blob is None:
        return
    events, header = contents(view, blob)
    mine = [position for position, record in accepted(world).items() if str(record.user) == id]
    floor = build.floor or {}
    known = {p: max(header.get(p, 0), floor.get(p, 0)) for p in range(len(world.topic.records))}
    want = Counter(position for position in mine if position[1] < known[position[0]])
    have = Counter({position: sum(tiles.values()) for position, tiles in events.items()})
    if have != want:
        _broken("header", f"user {id} claims {header}", want, have)


def at_rest(world: "World") -> None:
    """Every event is accepted once, a letter, or a duplicate; the log has the accepted ones once; so has each state."""
    expected = accepted(world)
    found = Counter(logged(world))
    if found != Counter(expected.keys()):
        _broken("log", "the log", Counter(expected.keys()), found)
    _check_letters(world, found)
    for partition, records in enumerate(world.topic.records):
        end = world.ends().get(partition, 0)
        if records and end != len(records):
            message = f"liveness: the log ends at {end} of {len(records)} in p{partition}"
            raise Broken(message)
    serving = {build.view: build for build in world.builds() if build.status == "serving"}
    for name, view in variants()[world.variant].views.items():
        build = serving.get(name)
        if build is None or build.fingerprint != view.fingerprint:
            message = f"liveness: the build of {name} does not serve"
            raise Broken(message)
        _check_markers(world, build)
        _check_states(world, view, build, expected)


def _check_letters(world: "World", log: Mapping[Position, int]) -> None:
    letters = Counter(lettered(world))
    twice = [position for position, count in letters.items() if count > 1]
    if twice:
        message = f"letters: {twice} stand twice"
        raise Broken(message)
    if world.meanings == 1:
        want = Counter(position for position, fate in fates(world.topic.records).items() if fate == "letter")
        if letters != want:
            _broken("letters", "the letters", want, letters)
        return
    for partition, records in enumerate(world.topic.records):  # by the log, each event is one or the other
        remembered: dict[str, int] = {}
        newest_us = NEVER_US
        for offset, record in enumerate(records):
            place = (partition, offset)
            is_duplicate = remembered.get(record.id, 2 * NEVER_US) >= newest_us - WITHIN_US
            if place in log:
                if is_duplicate:
                    message = f"log: {place} is a duplicate"
                    raise Broken(message)
                remembered[record.id], newest_us = record.at_us, max(newest_us, record.at_us)
            elif not is_duplicate and place not in letters:
                message = f"letters: {place} is nowhere"
                raise Broken(message)


def _check_markers(world: "World", build: Build) -> None:
    for shard in range(world.settings.shards):
        marker = world.cluster.master(shard).marker(build.field)
        for partition, end in world.ends().items():
            have = None if marker is None else marker.get(partition, (build.floor or {}).get(partition, 0))
            if have != end:
                message = (
                    f"liveness: {build.view}'s marker of p{partition} on shard {shard} is {have}, not {end}"
                )
                raise Broken(message)


def _check_states(world: "World", view: View, build: Build, expected: Mapping[Position, Record]) -> None:
    """At any later moment, what a read sees of each entity's state are the accepted events in the window."""
    by_id: dict[str, dict[Position, int]] = {}
    for position, record in expected.items():
        by_id.setdefault(str(getattr(record, view.entity)), {})[position] = record.at_us
    for id, mine in by_id.items():
        first_us = max(world.now_us, *(at_us + 1 for at_us in mine.values()))
        server = world.cluster.master(world.cluster.shard_of(view.entity, id))
        for at_us in (
            first_us,
            first_us + 3 * HOUR_US,
            first_us + 11 * HOUR_US,
            first_us + TTL_US,
            first_us + 3 * TTL_US,
        ):
            low_us = NEVER_US if view.ttl_us is None else (at_us - TTL_US) // RUNG_US * RUNG_US
            want = Counter(position for position, event_us in mine.items() if low_us <= event_us < at_us)
            held = server.hash(view.entity, id, at_us)
            blob = held.blobs.get(build.field) if held else None
            events = contents(view, blob)[0] if blob else {}
            have = Counter(
                {
                    position: count
                    for position, tiles in events.items()
                    if (count := sum(n for tile, n in tiles.items() if view.ttl_us is None or tile >= low_us))
                }
            )
            if have != want:
                hours = (at_us - world.now_us) / HOUR_US
                _broken("online", f"{view.name} of {id}, read {hours:.0f} h later,", want, have)


def _broken(law: str, who: str, want: Counter[Position], have: Counter[Position]) -> None:
    lacks, extra = sorted((want - have).elements()), sorted((have - want).elements())
    message = f"{law}: {who} lacks {lacks}, has too many {extra}"
    raise Broken(message)

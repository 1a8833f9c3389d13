"""The builds that a worker is to write, made ready: current, each with its floor, and with all states up to that.

`base` is always the one snapshot of the log that the worker starts from; None where a table is its own log.
"""

from collections.abc import Iterable
from dataclasses import replace

from featureflow_cli.evaluate.bootstrap import bootstrap
from featureflow_cli.evaluate.keeping import Kept, markers
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.outside import Outside


def founded(kept: Kept, outside: Outside, base: Snapshot | None) -> Kept:
    """The kept view by a build that can become what is served, with its floor."""
    return _with_floor(_renewed(kept, outside, base), outside, base)


def _renewed(kept: Kept, outside: Outside, base: Snapshot | None) -> Kept:
    """The kept view, with a new build where this one can no longer become what is served.

    That is so where the log was decided by another meaning since it was made (definitions went there and back),
    and where the store has lost states that serve: built up again under the reader's eyes they would be read half
    done; so what is lost stays lost for readers, until another build, made from the log as it is now, serves.
    """
    build = kept.build
    is_lost = build.status == "serving" and not is_built(kept, outside.online)
    is_outdated = base is not None and build.version < base.raised_order
    return Kept(kept.view, outside.renew(build.number)) if is_lost or is_outdated else kept


def _with_floor(kept: Kept, outside: Outside, base: Snapshot | None) -> Kept:
    """The kept view with its floor: the log's ends at `base`, unless one was recorded before."""
    if kept.build.floor is not None:
        return kept
    floor = outside.set_floor(kept.build.number, {} if base is None else base.ends)
    return Kept(kept.view, replace(kept.build, floor=floor))


def is_below_a_floor(base: Snapshot | None, members: Iterable[Kept]) -> bool:
    """Whether states are to be built from events that `base` has not: another worker, which recorded the floor
    first, had looked at the log later [bootstrap].
    """
    return base is not None and any(
        end > base.ends.get(partition, 0)
        for kept in members
        for partition, end in (kept.build.floor or {}).items()
    )


def is_built(kept: Kept, online: OnlineStore) -> bool:
    """Whether every shard has its marker, and so all states below its floor [bootstrap]."""
    return None not in markers(online, kept)


def build_up(kept: Kept, outside: Outside, base: Snapshot | None) -> bool:
    """Write its states and markers from the events below its floor; whether there were any events."""
    relation = outside.below(base, kept.build.floor or {})
    done = bootstrap(outside.engine, relation, kept, outside.online, outside.clock)
    reached("bootstrapped")
    return done.events > 0

"""What bootstrap and stream share when they keep states online: whose they are, and for how long."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featureflow_cli.compute.codec import Ends
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.records import Words
from featureflow_cli.compute.views import View
from featureflow_cli.compute.windows import default_resolution
from featureflow_cli.online.store import FOREVER_US, NO_VERSION, OnlineStore
from featureflow_cli.plan.applied import Build


@dataclass(frozen=True)
class Kept:
    """A view and the build of it that is written: its field online, and the floor where its stream begins."""

    view: View
    build: Build

    @cached_property
    def field(self) -> str:
        return self.build.field

    def floor(self, partition: int) -> int:
        """Where a missing state's knowledge of a partition ends: it stands for the empty one at the floor."""
        return (self.build.floor or {}).get(partition, 0)


def expires_us(view: View, newest_us: Ints, now_us: int) -> Ints:
    """When each blob may go (design.md 5 [expiry]); FOREVER_US: never.

    At least ttl, the coarsest rung and the allowed future after the later of its newest event and now; and
    ttl/60 more, by which stores may put off the renewal. A rank's refresh is such a rung: a population is read
    until the next grid point, and has to find all its members until then.
    """
    if view.ttl_us is None:
        return np.full(len(newest_us), FOREVER_US)
    rungs = [
        resolution for column in view.columns for width, resolution in column.horizons if width is not None
    ]
    refreshes = [feature.refresh_us for feature in view.features]
    rung_us = max([default_resolution(view.ttl_us), *rungs, *refreshes])
    kept_us = view.ttl_us + rung_us + view.source.allowed_future_us + view.ttl_us // 60
    return np.maximum(newest_us, now_us) + kept_us


def ends_at(count: int, floor: Mapping[int, int]) -> Ends:
    """The header of `count` states that all know the same partitions up to the same ends."""
    partitions = np.array(sorted(floor), np.int64)
    ends = np.array([floor[partition] for partition in sorted(floor)], np.int64)
    return Ends(
        np.repeat(np.arange(count, dtype=np.int64), len(partitions)),
        np.tile(partitions, count),
        np.tile(ends, count),
    )


def new_versions(count: int) -> Words:
    """Versions of hashes: random, never counted, so that one that expired and came back matches nobody."""
    drawn = np.frombuffer(secrets.token_bytes(8 * count), np.uint64)
    return np.maximum(drawn, np.uint64(NO_VERSION + 1))


def markers(store: OnlineStore, kept: Kept) -> list[dict[int, int] | None]:
    """The view's marker on each shard; None where it was not bootstrapped."""
    return [store.marker(shard, kept.field) for shard in range(store.shards)]


def low_end(
    members: Sequence[Kept], marked: Mapping[str, Sequence[Mapping[int, int] | None]], partition: int
) -> int:
    """Up to where every state of every view is complete in that partition, on every shard [shard].

    `marked`: of each member's field the markers of all shards.
    """
    return min(
        (
            (marker or {}).get(partition, kept.floor(partition))
            for kept in members
            for marker in marked[kept.field]
        ),
        default=0,
    )

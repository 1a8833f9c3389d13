"""A batch as it comes from an intake: piece by piece, so that what has come is decoded while more is read."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode
from featureflow_cli.sources.parallel import begun
from featureflow_cli.stream.outside import Intake

PIECES = 4
FEWEST = 10_000
"""A batch is read in so many pieces, none of fewer events: each costs a little."""


def read(
    intake: Intake, source: Source, positions: Mapping[int, int], rows: int, wait_s: float
) -> dict[int, list[RawBatch]]:
    """About `rows` events in all, as `Intake.read` answers and raises.

    Only a topic is read in pieces, where the client makes an object of every message: a file's reader is as fast as
    its decoder, and works on all cores. A piece that is not full is the last one, for no more is there yet.
    """
    at_once = max(rows // PIECES, FEWEST) if intake.waits else rows
    found: dict[int, list[RawBatch]] = {}
    at, left = dict(positions), rows
    while True:
        piece = intake.read(at, min(at_once, left), wait_s)
        left -= at_once
        count = sum(len(batch.offsets) for batches in piece.values() for batch in batches)
        is_last = left <= 0 or count < at_once
        for partition, batches in piece.items():
            found.setdefault(partition, []).extend(
                batches if is_last else (_begun(batch, source) for batch in batches)
            )
            at[partition] = batches[-1].end
        if is_last:
            return found


def _begun(batch: RawBatch, source: Source) -> RawBatch:
    return replace(batch, decoding=begun(partial(decode, source=source), batch))

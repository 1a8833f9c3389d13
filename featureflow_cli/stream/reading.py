"""A batch as it comes from an intake: piece by piece, so that what has come is decoded while more is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import count

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import Decoded, RawBatch
from featureflow_cli.sources.decode import decode_all
from featureflow_cli.sources.parallel import begun
from featureflow_cli.stream.outside import Intake

PIECES = 4
FEWEST = 25_000
"""A batch is read in so many pieces, none of fewer events: two threads that share Python's lock cost more than one does
(of 19,000 events in two pieces, 0.7 us each)."""
REST_S = 0.01
"""How long a piece is waited for that follows another one: who is behind has it there, others want what they have."""


def read(
    intake: Intake, source: Source, positions: Mapping[int, int], rows: int, wait_s: float
) -> dict[int, list[RawBatch]]:
    """About `rows` events in all, as `Intake.read` answers and raises.

    Only a topic is read in pieces, where the client makes an object of every message: a file's reader is as fast as
    its decoder, and works on all cores. A piece that is not half full is the last one, for no more is there yet. (What
    the client says of ends that it met counts as messages, so that a full one has some fewer.)
    """
    at_once = max(rows // PIECES, FEWEST) if intake.waits else rows
    found: dict[int, list[RawBatch]] = {}
    at, left = dict(positions), rows
    while True:
        piece = intake.read(at, min(at_once, left), min(wait_s, REST_S) if found else wait_s)
        left -= at_once
        came = sum(len(batch.offsets) for batches in piece.values() for batch in batches)
        is_last = left <= 0 or 2 * came < at_once
        for partition, batches in (piece if is_last else _begun(piece, source)).items():
            found.setdefault(partition, []).extend(batches)
            at[partition] = batches[-1].end
        if is_last:
            return found


def _begun(piece: Mapping[int, list[RawBatch]], source: Source) -> Mapping[int, list[RawBatch]]:
    """The piece, all of which is being decoded; each of its batches knows where it will stand."""
    every = [batch for batches in piece.values() for batch in batches]
    decoded = cache(begun(partial(decode_all, source=source), every))
    places = count()
    return {
        partition: [replace(batch, decoding=partial(_of, decoded, next(places))) for batch in batches]
        for partition, batches in piece.items()
    }


def _of(decoded: Callable[[], Sequence[Decoded]], place: int) -> Decoded:
    return decoded()[place]

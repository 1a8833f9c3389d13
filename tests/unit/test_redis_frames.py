"""Writes of a batch as the bytes that Redis reads."""

import itertools
import time

from featureflow_cli.online.redis_frames import write_calls
from featureflow_cli.online.store import Write

FIELDS = [f"f{place}.1" for place in range(12)]
SHAPES = list(itertools.product([b"state", None], repeat=len(FIELDS)))[:-1]  # one of them sets nothing


def test_writes_that_all_set_other_fields_cost_little_more_than_those_that_set_the_same() -> None:
    """Views of one entity take what they like of a batch: of twelve, nearly every hash has another choice."""
    moments = (0,) * len(FIELDS)
    same, other = (
        [Write(f"{place}", None, b"version!", blobs, moments, None) for place, blobs in enumerate(some)]
        for some in ([SHAPES[0]] * len(SHAPES), SHAPES)
    )
    assert cpu_s(other) < 10 * cpu_s(same)


def cpu_s(writes: list[Write]) -> float:
    started = time.thread_time()
    calls = b"".join(write_calls(b"write", b"shop:user:", FIELDS, writes, 0))
    assert calls.count(b"version!") == len(writes)
    return time.thread_time() - started

"""The parts of a batch on all cores: Arrow's readers and casts work outside of Python's lock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import pyarrow as pa

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def each(call: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """`call` of every item, in order; one item is not worth a thread. Raises what the first failed call did."""
    if len(items) < 2:
        return [call(item) for item in items]
    return list(_threads().map(call, items))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(pa.cpu_count(), "decode")

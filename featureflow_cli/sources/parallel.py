"""The parts of a batch on all cores: Arrow's readers and casts work outside of Python's lock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import pyarrow as pa

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def each(call: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """`call` of every item, in order. Raises what the first failed call did.

    The caller takes whatever no thread has begun yet: so calls may do the same with parts of their own. Where Arrow is
    to use one core, it takes all of them.
    """
    if len(items) < 2 or pa.cpu_count() == 1:
        return [call(item) for item in items]
    others = [(_threads().submit(call, item), item) for item in items[1:]]
    return [call(items[0]), *(call(item) if other.cancel() else other.result() for other, item in others)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, pa.cpu_count() - 1), "decode")

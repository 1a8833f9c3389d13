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

    The caller takes whatever no thread has begun yet: so calls may do the same with parts of their own.
    """
    if len(items) < 2:
        return [call(item) for item in items]
    others = [begun(call, item) for item in items[1:]]
    return [call(items[0]), *(answer() for answer in others)]


def begun(call: Callable[[Item], Answer], item: Item) -> Callable[[], Answer]:
    """`call` of the item, begun as soon as a thread is free; what is handed back waits for the answer.

    It makes the call itself where no thread has begun it: so it is right to ask for it anywhere, also in such a call.
    """
    future = _threads().submit(call, item)
    return lambda: call(item) if future.cancel() else future.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, pa.cpu_count() - 1), "decode")

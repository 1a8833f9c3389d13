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

    The caller takes whatever no thread has begun yet: so calls may do the same with parts of their own, and wait
    for nothing that is not under way.
    """
    if len(items) < 2:
        return [call(item) for item in items]
    futures = [_threads().submit(call, item) for item in items[1:]]
    answers = [call(items[0])]
    for future, item in zip(futures, items[1:], strict=True):
        answers.append(call(item) if future.cancel() else future.result())
    return answers


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, pa.cpu_count() - 1), "decode")

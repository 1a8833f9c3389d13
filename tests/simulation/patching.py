"""How a rule is switched off: production's functions, changed for as long as a schedule is played."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch


def patched(target: Any, name: str, by: Callable[..., Any]) -> Any:
    """`target.name` becomes a function that is handed the original first."""
    original = getattr(target, name)

    def changed(*args: Any, **named: Any) -> Any:
        return by(original, *args, **named)

    return patch.object(target, name, changed)


@contextmanager
def together(*several: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for each in several:
            stack.enter_context(each)
        yield

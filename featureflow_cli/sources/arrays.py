"""Arrow columns as numpy ones; null is false, 0, or masked out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
MOMENT = pa.timestamp("us", tz="UTC")


def flags(mask: Any) -> Bools:
    """A boolean column as numpy; null is false."""
    found: Bools = (pc.fill_null(mask, False) if mask.null_count else mask).to_numpy(zero_copy_only=False)
    return found


def valid(array: Any) -> Bools:
    if not array.null_count:
        return np.ones(len(array), bool)
    found: Bools = array.is_valid().to_numpy(zero_copy_only=False)
    return found


def ints(array: Any) -> Ints:
    """An integer column as numpy; null is 0."""
    filled: Ints = (pc.fill_null(array, 0) if array.null_count else array).to_numpy(zero_copy_only=False)
    return filled.astype(np.int64, copy=False)


def to_moments(microseconds: Ints, present: Bools) -> Any:
    return pa.array(microseconds, pa.int64(), mask=~present).cast(MOMENT)

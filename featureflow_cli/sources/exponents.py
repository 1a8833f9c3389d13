"""Where a number in JSON is written with an exponent: there Arrow's decimals are not to be trusted.

Arrow makes zero of `1e-41` where it reads decimals of 18 digits or less, and overflows without a word at
large exponents where it reads wider ones.
"""

import numpy as np
import numpy.typing as npt

from featureflow_cli.sources.arrays import Bools, Ints

Octets = npt.NDArray[np.uint8]
LONGEST_MANTISSA = 90
"""More digits than Arrow's widest decimal takes, sign and point included."""


def exponents(block: bytes, *, negative_only: bool) -> Ints:
    """Positions of the `e` of every number with an exponent, in order; a text that looks like it may be among
    them.
    """
    octets = np.frombuffer(block, np.uint8)
    if negative_only:  # there are fewer hyphens than letters, and hardly ever one after an `e`
        if not ((octets[1:] == ord("-")) & ((octets[:-1] | 0x20) == ord("e"))).any():
            return np.empty(0, np.int64)
        at = np.flatnonzero(octets[1:-1] == ord("-"))
    else:
        at = np.flatnonzero((octets[1:-1] == ord("e")) | (octets[1:-1] == ord("E"))) + 1
    at = at[(octets[at] | 0x20) == ord("e")]
    at = at[_in_number(octets[np.maximum(at - 1, 0)])]
    after = octets[at + 1]
    at = at[_is_digit(after) | (after == ord("-")) | (after == ord("+"))]
    found: Ints = at[_begins_a_value(octets, at)]
    return found


def _begins_a_value(octets: Octets, at: Ints) -> Bools:
    """Whether what stands before `at` is a number that begins where a JSON value may."""
    before = at - 1
    inside = np.ones(len(at), bool)
    for _ in range(LONGEST_MANTISSA):
        inside &= _in_number(octets[before]) & (before > 0)
        if not inside.any():
            break
        before = before - inside
    signed = np.isin(octets[before], np.frombuffer(b"+-", np.uint8)) & (before > 0)
    begins = np.isin(octets[before - signed], np.frombuffer(b'":,[ \t\r\n', np.uint8))
    return np.logical_or(inside, begins)


def _is_digit(octets: Octets) -> Bools:
    return np.logical_and(octets >= ord("0"), octets <= ord("9"))


def _in_number(octets: Octets) -> Bools:
    point: Bools = octets == ord(".")
    return _is_digit(octets) | point

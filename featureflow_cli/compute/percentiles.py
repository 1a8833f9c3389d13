"""The buckets that `percentile` counts in: one committed table, searched by comparison (design.md 1.13).

An octave [2^(e-1), 2^e) is cut into 36 buckets at the mantissas below (0.5 * 2^(i/36), correctly rounded).
Neither the table nor the search takes a logarithm or a power, on which engines differ in the last digit: a
value lands in the same bucket everywhere. A bucket's ends differ by the factor 1.0195, its midpoint by less
than 1% from everything in it.
"""

import numpy as np
from numpy.typing import NDArray

MANTISSA_EDGES = (
    0.5,
    0.5097203218510724,
    0.5196296130159217,
    0.5297315471796477,
    0.540029869446153,
    0.5505283977265716,
    0.5612310241546865,
    0.5721417165298676,
    0.5832645197880583,
    0.5946035575013605,
    0.6061630334067722,
    0.6179472329646446,
    0.6299605249474366,
    0.6422073630593558,
    0.6546922875874868,
    0.6674199270850172,
    0.6803950000871885,
    0.6936223168606043,
    0.7071067811865476,
    0.7208533921789657,
    0.7348672461377994,
    0.7491535384383408,
    0.7637175654573216,
    0.7785647265364468,
    0.7937005259840998,
    0.8091305751159615,
    0.8248605943353025,
    0.8408964152537145,
    0.8572439828530728,
    0.8739093576895269,
    0.8908987181403393,
    0.9082183626944031,
    0.9258747122872905,
    0.9438743126816935,
    0.9622238368941451,
    0.980930087668915,
)
"""Lower ends of the buckets of one octave, as mantissas in [0.5, 1)."""

BUCKETS_AN_OCTAVE = len(MANTISSA_EDGES)
SMALLEST_EXPONENT = -1074
"""2 to this is the smallest positive double; every double is a multiple of it."""
EXACT_MULTIPLES = 2048
"""Multiples of it under this one are buckets of their own: there doubles lie too far apart to share one."""

_EDGES = np.array(MANTISSA_EDGES)
_UPPER = np.append(_EDGES[1:], 1.0)
_MIDPOINTS = 2 * _EDGES * _UPPER / (_EDGES + _UPPER)
"""Harmonic: as far, relatively, from the one end as from the other."""
_FIRST_OCTAVE = SMALLEST_EXPONENT + EXACT_MULTIPLES.bit_length()
"""`frexp` exponent of the first octave that is cut in 36."""


def bucket(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Bucket of each finite value: order preserving, mirrored in the sign, 0 for zero (no NaN comes here)."""
    sizes = np.abs(values)
    mantissas, exponents = np.frexp(sizes)
    steps = np.searchsorted(_EDGES, mantissas, side="right") - 1
    cut = EXACT_MULTIPLES + (exponents - _FIRST_OCTAVE) * BUCKETS_AN_OCTAVE + steps
    exact = exponents < _FIRST_OCTAVE
    multiples = np.ldexp(np.where(exact, mantissas, 0.0), exponents - SMALLEST_EXPONENT)
    numbers = np.where(exact, multiples.astype(np.int64), cut)
    return (np.sign(values).astype(np.int64) * numbers).astype(np.int32)


def midpoint(buckets: NDArray[np.int32]) -> NDArray[np.float64]:
    """The double that stands for everything in each bucket, within 1% of it."""
    numbers = np.abs(buckets.astype(np.int64))
    octaves, steps = np.divmod(np.maximum(numbers - EXACT_MULTIPLES, 0), BUCKETS_AN_OCTAVE)
    exact = numbers < EXACT_MULTIPLES
    mantissas = np.where(exact, numbers.astype(np.float64), _MIDPOINTS[steps])
    exponents = np.where(exact, SMALLEST_EXPONENT, octaves + _FIRST_OCTAVE).astype(np.int32)
    return np.copysign(np.ldexp(mantissas, exponents), buckets)

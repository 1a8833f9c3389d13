"""The bucket table of `percentile`: order, mirror, and the promised one percent."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.percentiles import MANTISSA_EDGES, bucket, midpoint

finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5000, 5000).map(lambda n: n * 5e-324)


def number(value: float) -> int:
    return int(bucket(np.array([value]))[0])


def stands_for(value: float) -> float:
    return float(midpoint(bucket(np.array([value])))[0])


def test_the_table_starts_at_a_half_and_rises_below_one():
    """An octave's first edge is its own start."""
    assert MANTISSA_EDGES[0] == 0.5
    assert all(low < high for low, high in zip(MANTISSA_EDGES, (*MANTISSA_EDGES[1:], 1.0), strict=True))


def test_zero_has_its_own_bucket_whatever_its_sign():
    """No other double shares it."""
    assert number(0.0) == number(-0.0) == 0
    assert number(5e-324) == 1
    assert number(-5e-324) == -1
    assert stands_for(0.0) == 0.0


def test_known_buckets_never_change():
    """Buckets are stored in states: a change here is a change of the codec."""
    values = (1.0, 1.019, 1.02, 2.0, 100.0, -1.0)
    assert [number(value) for value in values] == [40316, 40316, 40317, 40352, 40555, -40316]


def test_the_largest_doubles_stay_finite():
    """The last bucket's midpoint is below infinity."""
    assert math.isfinite(stands_for(1.7976931348623157e308))


@given(finite)
def test_a_midpoint_is_within_one_percent_and_in_its_own_bucket(value: float):
    """Subnormals included."""
    assert abs(stands_for(value) - value) <= abs(value) * 0.01
    assert number(stands_for(value)) == number(value)


@given(finite, finite)
def test_buckets_keep_the_order_and_mirror_the_sign(a: float, b: float):
    """A smaller value never has a greater bucket."""
    low, high = sorted((a, b))
    assert number(low) <= number(high)
    assert number(-a) == -number(a)


def test_every_small_multiple_and_every_edge_holds():
    """The seam between buckets of one double and buckets of many."""
    multiples = np.arange(1, 10_000) * 5e-324
    edges = np.ldexp(np.array(MANTISSA_EDGES)[None, :], np.arange(-1021, 1024)[:, None]).ravel()
    for values in (
        multiples,
        np.sort(np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf)])),
    ):
        numbers = bucket(values)
        assert (np.diff(numbers) >= 0).all()
        assert (np.abs(midpoint(numbers) - values) <= values * 0.01).all()

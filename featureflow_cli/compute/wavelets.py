"""Questions about values in a range of positions, answered for many ranges at once.

The structure is the wavelet matrix of Claude, Navarro and Ordóñez (2015): one bit of all values a level, each
level stably split into zeros and ones. All ranges walk the levels together, so a level is a few array
operations and needs to exist only while it is walked: O((n + ranges) * bits) time, O(n + ranges) memory.
"""

import numpy as np

from featureflow_cli.compute.codes import Bools, Ints


def sum_at_least(values: Ints, weights: Ints, low: Ints, high: Ints, floor: Ints) -> Ints:
    """For each range [low, high): the sum of `weights` where `values` (non-negative) >= `floor`. Exact, int64."""
    total = np.zeros(len(low), np.int64)
    low, high = low.copy(), high.copy()
    above = floor >> _bits(values) > 0
    for bit in range(_bits(values) - 1, -1, -1):
        ones = (values >> bit & 1).astype(np.bool_)
        zeros_before = _before(~ones)
        low_zeros, high_zeros = zeros_before[low], zeros_before[high]
        zeros = int(zeros_before[-1])
        order = np.concatenate([np.flatnonzero(~ones), np.flatnonzero(ones)])
        values, weights = values[order], weights[order]
        summed = np.concatenate([[0], np.cumsum(weights)])
        low_ones, high_ones = zeros + low - low_zeros, zeros + high - high_zeros
        is_one = (floor >> bit & 1).astype(np.bool_)
        total += np.where(is_one, 0, summed[high_ones] - summed[low_ones])
        low, high = np.where(is_one, low_ones, low_zeros), np.where(is_one, high_ones, high_zeros)
    summed = np.concatenate([[0], np.cumsum(weights)])
    return np.where(above, 0, total + summed[high] - summed[low])


def nth_smallest(values: Ints, low: Ints, high: Ints, nth: Ints) -> Ints:
    """For each range [low, high): the value at place `nth` (from 0, below high - low) in ascending order."""
    answer = np.zeros(len(low), np.int64)
    low, high, nth = low.copy(), high.copy(), nth.copy()
    for bit in range(_bits(values) - 1, -1, -1):
        ones = (values >> bit & 1).astype(np.bool_)
        zeros_before = _before(~ones)
        low_zeros, high_zeros = zeros_before[low], zeros_before[high]
        zeros = int(zeros_before[-1])
        values = values[np.concatenate([np.flatnonzero(~ones), np.flatnonzero(ones)])]
        is_one = nth >= high_zeros - low_zeros
        answer |= is_one.astype(np.int64) << bit
        nth = np.where(is_one, nth - (high_zeros - low_zeros), nth)
        low = np.where(is_one, zeros + low - low_zeros, low_zeros)
        high = np.where(is_one, zeros + high - high_zeros, high_zeros)
    return answer


def _bits(values: Ints) -> int:
    return max(int(values.max()).bit_length(), 1) if len(values) else 1


def _before(flags: Bools) -> Ints:
    return np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])

"""Ranks at many moments at once: the populations of all grid points asked for, and the rows' places in them."""

import numpy as np

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.partials import Answer
from featureflow_cli.compute.ranges import partials, side_texts
from featureflow_cli.compute.ranking import members, place, settle_ranks
from featureflow_cli.compute.reading import window_starts
from featureflow_cli.compute.timelines import Moments, Timeline
from featureflow_cli.compute.views import Feature, View
from featureflow_cli.compute.windows import grid_point

_PAIRS_AT_ONCE = 2_000_000


def rank_rows(view: View, feature: Feature, timeline: Timeline, asked: Moments, present: Bools) -> Answer:
    """The rank of each row; `timeline` holds the events of all entities, not of the asked ones only."""
    grid = grid_point(asked.t_us, feature.refresh_us)
    rows = np.flatnonzero(present & (asked.entity >= 0))
    ranks, answered = np.zeros(len(grid)), np.zeros(len(grid), np.bool_)
    held = np.zeros(len(grid), np.bool_)
    grids = np.unique(grid[rows])
    span = (
        max(1, _PAIRS_AT_ONCE // max(int(timeline.events.entity.max()) + 1, 1))
        if len(timeline.events.ts)
        else 1
    )
    for start in range(0, len(grids), span):
        some = grids[start : start + span]
        low, high = np.searchsorted(some, grid[rows]), np.searchsorted(some, grid[rows], side="right")
        mine = rows[high > low]
        ranks[mine], answered[mine], held[mine] = _rank_chunk(
            view, feature, timeline, asked.entity[mine], grid[mine], some
        )
    return settle_ranks(feature, ranks, answered, held, present)


def _rank_chunk(
    view: View, feature: Feature, timeline: Timeline, entity: Ints, grid: Ints, grids: Ints
) -> tuple[np.ndarray, Bools, Bools]:
    member, place_of = _active(feature, timeline, grids)
    texts = side_texts(timeline, feature.sides[0])

    def at(entities: Ints, moments: Ints) -> tuple[Ints, Ints]:
        return timeline.before(entities, window_starts(feature, moments)), timeline.before(entities, moments)

    all_members = members(
        view, feature, partials(view, feature, timeline, *at(member, grids[place_of])), grids[place_of], texts
    )
    own = members(view, feature, partials(view, feature, timeline, *at(entity, grid)), grid, texts)
    known = all_members.known
    order = np.lexsort((all_members.values[known], place_of[known]))
    values, points = all_members.values[known][order], place_of[known][order]
    bounds = np.searchsorted(points, np.arange(len(grids) + 1))
    ranks, answered = np.zeros(len(entity)), np.zeros(len(entity), np.bool_)
    point = np.searchsorted(grids, grid)
    by_point = np.argsort(point, kind="stable")
    for rows in np.split(by_point, np.flatnonzero(np.diff(point[by_point])) + 1):
        if len(rows):
            at_point = int(point[rows[0]])
            ordered = values[bounds[at_point] : bounds[at_point + 1]]
            ranks[rows], answered[rows] = place(feature, own.values[rows], ordered)
    return ranks, answered & own.known, own.held


def _active(feature: Feature, timeline: Timeline, grids: Ints) -> tuple[Ints, Ints]:
    """All (entity, index of a grid point) for which an event of the entity may count: t < g <= t + window.

    An entity's events come in order of time, so each adds only the grid points behind those of the one before.
    """
    assert feature.window.width_us is not None
    entity, ts = timeline.events.entity, timeline.events.ts
    low = np.searchsorted(grids, ts, side="right")
    high = np.searchsorted(grids, ts + feature.window.width_us, side="right")
    before = np.zeros(len(ts), np.int64)
    before[1:] = np.where(entity[1:] == entity[:-1], high[:-1], 0)
    low = np.maximum(low, before)
    lengths = np.maximum(high - low, 0)
    row = np.repeat(np.arange(len(ts)), lengths)
    place_of = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + low[row]
    return entity[row], place_of

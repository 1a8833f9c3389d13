"""The leakage audit: an independent look at every row of a dataset (design.md 6). It can fail.

Two questions, neither asked of the code that evaluated the rows:

* *When?* The newest event that each view knew of for each row, by a join of DuckDB's own. An evaluator that says
  it used an event at or after the label, or another newest one than there is, is caught.
* *What?* A sample of rows is computed again by the brute-force definition, from nothing but the events strictly
  before their label. An evaluator whose values come from anything else is caught.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.state import NEVER_US
from featureflow_cli.compute.views import Service, ServiceView
from featureflow_cli.dataset.labels import Labels
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.brute_force import differences
from featureflow_cli.evaluate.rows import Rows, label_column
from featureflow_cli.times import format_timestamp

SAMPLED_ROWS = 25


@dataclass(frozen=True)
class Audit:
    """`violations` counts (row, view) pairs by time and (row, feature) pairs by value; `first` describes one."""

    rows: int
    sampled: int
    violations: int
    first: str = ""


def audit(
    engine: Engine,
    service: Service,
    relations: Mapping[str, str],
    labels: Labels,
    rows: Rows,
    kept: Bools,
    *,
    sampled: int = SAMPLED_ROWS,
) -> Audit:
    """Audit the `kept` rows; the values of `sampled` of them (the same ones for the same labels)."""
    violations, first = 0, ""
    for member in service.views:
        used = rows.newest_us[member.alias]
        known = newest_before(engine, member, relations[member.view.source.name], labels)
        # An entity that is not present answers null from no event; how old its last one is matters to nobody.
        other = (used > known) | (rows.present[member.alias] & (used != known))
        wrong = np.flatnonzero(kept & ((used >= labels.t_us) | other))
        violations += len(wrong)
        if len(wrong) and not first:
            first = _describe(member.alias, int(wrong[0]), used, known, labels.t_us)
    chosen = np.flatnonzero(kept)
    if len(chosen) > sampled:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, sampled, replace=False))
    found = differences(engine, service, relations, labels.table, labels.t_us, rows, chosen)
    if found and not first:
        first = found[0]
    return Audit(int(kept.sum()), len(chosen), violations + len(found), first)


def newest_before(engine: Engine, member: ServiceView, relation: str, labels: Labels) -> Ints:
    """Timestamp of the entity's newest event of the view strictly before each label, by DuckDB's ASOF join."""
    view = member.view
    keys = [
        label_column(labels.table, member.join_keys.get(key.name, key.name), key.type)
        for key in view.join_keys
    ]
    names = [f"k{place}" for place in range(len(keys))]
    moments: dict[str, Any] = dict(zip(names, keys, strict=True))
    moments |= {"t": pa.array(labels.t_us), "place": pa.array(np.arange(len(labels.t_us)))}
    engine.register("audited", pa.table(moments))
    same = " AND ".join(f"a.{name} = e.{name}" for name in names)
    # (key, ts) made unique first: what ASOF picks among ties is not a rule.
    found = engine.columns(
        f"WITH e AS (SELECT DISTINCT {', '.join(names)}, ts FROM ({projection_sql(view, relation)})) "
        f"SELECT a.place AS place, coalesce(e.ts, CAST('{NEVER_US}' AS BIGINT)) AS newest "
        f"FROM audited a ASOF LEFT JOIN e ON {same} AND a.t > e.ts ORDER BY place"
    )
    engine.unregister("audited")
    return np.asarray(found["newest"], np.int64)


def _describe(alias: str, row: int, used: Ints, known: Ints, t_us: Ints) -> str:
    def told(moment: int) -> str:
        return "none" if moment == NEVER_US else format_timestamp(moment)

    return (
        f"row {row + 1}, label at {format_timestamp(int(t_us[row]))}: view '{alias}' used an event of "
        f"{told(int(used[row]))}; the newest before the label is {told(int(known[row]))}"
    )

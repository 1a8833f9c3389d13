"""The log as far as the states that were read had got: what is in them, and nothing else (design.md 8).

By the headers of the states: of each entity that was read, only events below the end that its state has in that
partition. Answers from these events must equal the states' answers; where they do and the whole log's do not,
the difference is lag.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codec import Ends
from featureflow_cli.compute.sql_text import quoted
from featureflow_cli.compute.views import View
from featureflow_cli.engines.duckdb import Engine


def applied(engine: Engine, view: View, relation: str, keys: pa.Table, ends: Ends) -> str:
    """A relation like `relation`, without the events that the states of `keys` had not seen.

    `keys` holds one row a state, its columns the view's join keys in order. Events of other entities stay, and
    so do those of a history before `until`, which no offset cuts.
    """
    names = [f"k{place}" for place in range(keys.num_columns)]
    numbered = keys.rename_columns(names).append_column("state", pa.array(np.arange(len(keys))))
    engine.register("skew_states", numbered)
    engine.register(
        "skew_ends",
        pa.table({"state": ends.state, "partition": ends.partition, "upto": ends.end}),
    )
    columns = [quoted(key.column) for key in view.join_keys]
    same = " AND ".join(f"e.{column} = s.{name}" for column, name in zip(columns, names, strict=True))
    kept = ["s.state IS NULL", "e._offset < coalesce(x.upto, 0)"]
    if view.source.until_us is not None:
        kept.append(f"epoch_us(e.{quoted(view.source.timestamp_field)}) < {view.source.until_us}")
    engine.run(
        f"CREATE OR REPLACE TEMP VIEW skew_applied AS SELECT e.* FROM {relation} e"
        f" LEFT JOIN skew_states s ON {same}"
        f" LEFT JOIN skew_ends x ON x.state = s.state AND x.partition = e._partition"
        f" WHERE {' OR '.join(kept)}"
    )
    return "skew_applied"


def beyond(ends: Ends, count: int, log: dict[int, int]) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which of the states hold events that a log with these ends does not have yet."""
    ahead = np.zeros(count, np.bool_)
    known = np.array([log.get(partition, 0) for partition in ends.partition.tolist()], np.int64)
    ahead[ends.state[ends.end > known]] = True
    return ahead


def chosen(ends: Ends, states: Sequence[int]) -> Ends:
    """The headers of some of the states, renumbered in that order."""
    place = {state: at for at, state in enumerate(states)}
    keep = np.isin(ends.state, list(states))
    moved = np.array([place[state] for state in ends.state[keep].tolist()], np.int64)
    order = np.argsort(moved, kind="stable")
    return Ends(moved[order], ends.partition[keep][order], ends.end[keep][order])

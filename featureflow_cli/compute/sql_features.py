"""A whole service as one plain SQL text: the second evaluator (design.md section 6).

It says what training's arrays compute in the words of the law: labels joined with the events of their entities, one
aggregate a feature. DuckDB runs it with the functions of engines/functions.py; nothing depends on the session. Its cost
is labels times the events that they see: meant to be read, to check others by, and for engines beyond one machine.
"""

from collections.abc import Mapping, Sequence

from featureflow_cli.compute.sql_expressions import expression_sql
from featureflow_cli.compute.sql_text import literal, quoted, sql_type
from featureflow_cli.compute.sql_views import LABELS, Ctes, member_ctes
from featureflow_cli.compute.views import OnDemand, Service

_HEADER = "-- ff_xxh64, ff_bucket, ff_midpoint and ff_row_text are registered by featureflow_cli.engines.functions\n"


def service_sql(
    service: Service,
    labels: str = "labels",
    relations: Mapping[str, str] | None = None,
    timestamp: str = "timestamp",
    *,
    drop_cold: bool = False,
) -> str:
    """The labels' columns, then every output of `service`; rows in the labels' order.

    `labels` has the join keys, the request columns and the moment (`timestamp`); `relations` names the accepted
    events by source (default: the source's own name). With `drop_cold`, without the rows of which a required
    entity is not known (design.md 1.11).
    """
    columns = ["labels.* EXCLUDE (_row, _t)", *_outputs(service)]
    kept = f"\nWHERE {condition}" if drop_cold and (condition := _warm(service)) else ""
    return _HEADER + _select(service, labels, relations, timestamp, columns, kept)


def answers_sql(service: Service, labels: str, relations: Mapping[str, str], timestamp: str) -> str:
    """Every output of `service`, and by view `alias.present` and `alias.newest` (the newest event seen, or null)."""
    columns = _outputs(service)
    for member in service.views:
        view = quoted(f"{member.alias}.features")
        columns += [f"{view}.{each} AS {quoted(f'{member.alias}.{each}')}" for each in ("present", "newest")]
    return _select(service, labels, relations, timestamp, columns, "")


def _select(
    service: Service,
    labels: str,
    relations: Mapping[str, str] | None,
    timestamp: str,
    columns: Sequence[str],
    kept: str,
) -> str:
    numbered = f"SELECT *, row_number() OVER () AS _row, epoch_us({quoted(timestamp)}) AS _t FROM {labels}"
    ctes: Ctes = {LABELS: numbered}
    for member in service.views:
        source = member.view.source.name
        ctes |= member_ctes(member, service.needed(member), (relations or {}).get(source, quoted(source)))
    written = ",\n\n".join(f"{name} AS (\n{_indented(text)}\n)" for name, text in ctes.items())
    joined = "".join(f"\nJOIN {quoted(f'{each.alias}.features')} USING (_row)" for each in service.views)
    chosen = ",\n  ".join(columns)
    return f"WITH {written}\n\nSELECT\n  {chosen}\nFROM {LABELS} AS labels{joined}{kept}\nORDER BY _row"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


# --- a service


def _outputs(service: Service) -> list[str]:
    columns = [
        f"{quoted(f'{member.alias}.features')}.{quoted(f'{member.alias}__{name}')}"
        for member in service.views
        for name, _ in member.view.outputs
        if name in member.features
    ]
    return columns + [f"{_on_demand(service, each)} AS {quoted(each.name)}" for each in service.on_demand]


def _on_demand(service: Service, feature: OnDemand) -> str:
    columns = {
        f"{member.view.name}.{name}": f"{quoted(f'{member.alias}.features')}.{quoted(f'{member.alias}__{name}')}"
        for member in service.views
        if service.is_read(member)
        for name, _ in member.view.outputs
    }
    columns |= {
        name: f"CAST(labels.{quoted(name)} AS {sql_type(column_type)})"
        for name, column_type in feature.request.items()
    }
    columns["as_of"] = "make_timestamptz(labels._t)"
    answer = expression_sql(feature.expr, columns.__getitem__)
    return (
        answer if feature.default is None else f"coalesce({answer}, {literal(feature.default, feature.type)})"
    )


def _warm(service: Service) -> str:
    """True of labels of which every required entity is present in one of its views."""
    entities = []
    for entity in service.required_entities:
        views = [each for each in service.views if each.view.entity == entity]
        if views:
            known = [f"{quoted(f'{each.alias}.features')}.present" for each in views]
            entities.append(f"({' OR '.join(known)})")
    return " AND ".join(entities)

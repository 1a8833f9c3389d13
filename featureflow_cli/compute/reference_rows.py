"""The brute-force definition of whole rows: a service's outputs, cold labels, and what a source accepts.

The rest of `compute/reference.py`, held to the same rule: obviously right.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from featureflow_cli.compute.reference import EntityKey, Event, answer, evaluate, time_us
from featureflow_cli.compute.reference_aggregations import finite
from featureflow_cli.compute.views import Service, ServiceView, Source
from featureflow_cli.spec.types import Value


def vector(
    service: Service, events: Mapping[str, Sequence[Event]], row: Event, t_us: int
) -> dict[str, Value]:
    """All outputs of a service for `row` (its join keys and request columns); `events` by source name."""
    outputs: dict[str, Value] = {}
    readable: dict[str, Value] = {**row, "as_of": t_us}
    for member in service.views:
        values = answer(member.view, events[member.view.source.name], _asked(member, row), t_us).values
        outputs.update({f"{member.alias}__{name}": values[name] for name in member.features})
        if service.is_read(member):
            readable.update({f"{member.view.name}.{name}": held for name, held in values.items()})
    for feature in service.on_demand:
        held = finite(evaluate(feature.expr, readable))
        outputs[feature.name] = feature.default if held is None else held
    return outputs


def cold(service: Service, events: Mapping[str, Sequence[Event]], row: Event, t_us: int) -> tuple[str, ...]:
    """The required entities that make a label `row` cold: present in none of the views of them (1.11)."""
    present = {
        member.view.entity
        for member in service.views
        if answer(member.view, events[member.view.source.name], _asked(member, row), t_us).status == "present"
    }
    return tuple(entity for entity in service.required_entities if entity not in present)


def _asked(member: ServiceView, row: Event) -> EntityKey:
    """The key that `row` asks a view for; a null in it is nobody's."""
    names = (join_key.name for join_key in member.view.join_keys)
    return tuple(row.get(member.join_keys.get(name, name)) for name in names)


def accepted(source: Source, deliveries: Iterable[tuple[int, int, Event]]) -> list[Event]:
    """What enters the log of (partition, recorded_us, event), in order of delivery (1.6, 1.7)."""
    logs: dict[int, list[Event]] = defaultdict(list)
    for partition, recorded_us, event in deliveries:
        log, at = logs[partition], time_us(source, event)
        if at > recorded_us + source.allowed_future_us:
            continue
        newest_us = max((time_us(source, earlier) for earlier in log), default=at)
        remembered = [
            earlier for earlier in log if time_us(source, earlier) >= newest_us - source.dedupe_within_us
        ]
        if source.event_id is None or event[source.event_id] not in [
            each[source.event_id] for each in remembered
        ]:
            log.append(event)
    return [event for log in logs.values() for event in log]

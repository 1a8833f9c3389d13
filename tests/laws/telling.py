"""What the definition says of whole rows of a service, and how other answers differ from it."""

from collections.abc import Mapping, Sequence

from featureflow_cli.compute import reference
from featureflow_cli.compute.reference import Entities, Event
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.views import Service
from featureflow_cli.spec.types import DOUBLE, Value
from tests.laws.comparing import same, scale


class Told:
    """The answers of the definition, for many rows of one service."""

    def __init__(self, service: Service, accepted: Mapping[str, Sequence[Event]]) -> None:
        self._service = service
        self._known: dict[str, Entities] = {
            each.alias: reference.entities(each.view, accepted.get(each.view.source.name, []))
            for each in service.views
        }

    def differences(self, row: Mapping[str, Value], t_us: int, actual: Mapping[str, Value]) -> list[str]:
        """Outputs of which `actual` is not what the definition says."""
        found = []
        readable: dict[str, Value] = {**row, "as_of": t_us}
        for each in self._service.views:
            known = self._known[each.alias]
            key = tuple(row[each.join_keys.get(own.name, own.name)] for own in each.view.join_keys)
            answer = reference.answer_of(each.view, known, key, t_us)
            if self._service.is_read(each):
                readable |= {f"{each.view.name}.{name}": value for name, value in answer.values.items()}
            features = {feature.name: feature for feature in each.view.features}
            for name, column_type in each.view.outputs:
                held = actual[f"{each.alias}__{name}"]
                expected = answer.values[name]
                near = None
                if column_type == DOUBLE and name in features and expected is not None:
                    near = scale(each.view, features[name], known, key, t_us)
                if not same(expected, held, column_type, near):
                    found.append(f"{each.alias}__{name} of {key} at {t_us}: {held!r}, not {expected!r}")
        for on_demand in self._service.on_demand:
            expected = compile_row(on_demand.expr)(readable)
            expected = on_demand.default if expected is None else expected
            if not same(expected, actual[on_demand.name], on_demand.type, _size(expected)):
                found.append(f"{on_demand.name} at {t_us}: {actual[on_demand.name]!r}, not {expected!r}")
        return found


def _size(expected: Value) -> float | None:
    return abs(expected) * 1e3 if isinstance(expected, float) else None

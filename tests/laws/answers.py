"""What the fast paths answer, held to what the reference does."""

from collections.abc import Sequence

from featureflow_cli.compute import reference
from featureflow_cli.compute.partials import REASONS
from featureflow_cli.compute.reading import Read
from featureflow_cli.compute.reference import EntityKey, Event
from featureflow_cli.compute.views import View
from tests.laws.comparing import same, scale
from tests.laws.tables import plain


def assert_rows(
    view: View, events: Sequence[Event], rows: Sequence[tuple[EntityKey, int]], answers: Read
) -> None:
    """Presence, values and reasons of every row (entity, moment) are the reference's."""
    known = reference.entities(view, events)
    columns = {name: plain(answers.answers[name].values, column_type) for name, column_type in view.outputs}
    features = {feature.name: feature for feature in view.features}
    for place, (key, t_us) in enumerate(rows):
        expected = reference.answer_of(view, known, key, t_us)
        where = f"of {key} at {t_us}"
        assert bool(answers.present[place]) == (expected.status == "present"), where
        for name, column_type in view.outputs:
            actual = columns[name][place]
            relative_to = None
            if column_type.name == "double" and name in features:
                relative_to = scale(view, features[name], known, key, t_us)
            assert same(expected.values[name], actual, column_type, relative_to), (
                f"{name} {where}: {actual!r} instead of {expected.values[name]!r}"
            )
            reason = answers.answers[name].reason
            found = "" if reason is None else REASONS[int(reason[place])]
            assert found == expected.reasons.get(name, ""), f"{name} {where}: {found}"

"""From applied to written definitions: the plan. Pure; what it needs to know of stores is handed to it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from featureflow_cli.compute.views import Repo
from featureflow_cli.errors import DefinitionError, Problem
from featureflow_cli.plan.applied import Build, ViewState
from featureflow_cli.plan.costs import rebuild_text, source_notes, view_notes
from featureflow_cli.plan.differences import differences, is_cosmetic, written
from featureflow_cli.plan.history import History
from featureflow_cli.plan.steps import (
    KINDS,
    BuildState,
    Change,
    DropState,
    Kind,
    OpenLog,
    Plan,
    Record,
    Sign,
    Step,
)
from featureflow_cli.plan.topics import Topics, topic_notes, topic_steps
from featureflow_cli.spec.models import Definitions
from featureflow_cli.times import format_duration


@dataclass(frozen=True)
class Defined:
    """Definitions with what they compile to. `allowed_future_us` is the setting that is applied with them."""

    definitions: Definitions
    repo: Repo
    allowed_future_us: int


NOTHING = Defined(Definitions(), Repo(project=""), -1)


@dataclass(frozen=True)
class Present:
    """What stands now. `version` is 0 where nothing was applied; `logs` has each offline table's meaning.

    `topics` has the sources that stream from Kafka, as far as their brokers were asked; `read` are those whose logs
    hold events of a topic.
    """

    version: int
    builds: Sequence[Build]
    logs: Mapping[str, str]
    histories: Mapping[str, History]
    topics: Topics = field(default_factory=dict)
    read: Collection[str] = ()


@dataclass(frozen=True)
class Comparison:
    before: Defined
    after: Defined
    present: Present


def make_plan(
    before: Defined,
    after: Defined,
    present: Present,
    *,
    project: str,
    target: str | None,
    definitions_json: str,
) -> Plan:
    """The steps from `before` to `after`, in a stable order: kinds as in `steps.KINDS`, names as written.

    Applying it twice changes nothing the second time; a plan that was cut off is found again as what is left.
    DefinitionError where a column changes its type although the offline log holds it.
    """
    compared = Comparison(before, after, present)
    _refuse_changed_types(compared)
    changes = [
        *_setting(compared),
        *_objects("entity", compared),
        *_objects("source", compared),
        *_objects("view", compared),
        *_objects("on-demand", compared),
        *_objects("service", compared),
    ]
    topic_changes, topics = topic_steps(after.repo.sources, present.topics, present.read)
    listed = sorted([*changes, *topic_changes], key=lambda change: KINDS.index(change.kind))
    steps: list[Step] = [*listed]
    wanted = tuple(ViewState(view.name, view.entity, view.fingerprint) for view in after.repo.views.values())
    builds = _new_builds(wanted, after.repo, present)
    if changes or builds:
        summary = _summary(changes)
        steps.append(Record(definitions_json, after.allowed_future_us, wanted, present.version, summary))
    steps += topics
    steps += [
        OpenLog(name, source.meaning, name not in present.logs)
        for name, source in after.repo.sources.items()
        if source.streamed and present.logs.get(name) != source.meaning
    ]
    steps += builds
    steps += _drops(wanted, present)
    return Plan(project, target, present.version, tuple(steps))


def _refuse_changed_types(compared: Comparison) -> None:
    problems = [
        Problem(
            at=f"source {name}",
            what=f"column '{column}' changes its type from {old.columns[column]} to {new_type},"
            " but the offline log holds it as it was",
            hint="declare it under a new name (`from:` keeps its path)",
        )
        for name, new in compared.after.repo.sources.items()
        if name in compared.present.logs and (old := compared.before.repo.sources.get(name)) is not None
        for column, new_type in new.columns.items()
        if old.columns.get(column, new_type) != new_type
    ]
    if problems:
        raise DefinitionError(problems)


def _setting(compared: Comparison) -> list[Change]:
    if compared.before is NOTHING or compared.before.allowed_future_us == compared.after.allowed_future_us:
        return []
    old = format_duration(compared.before.allowed_future_us)
    new = format_duration(compared.after.allowed_future_us)
    detail = f"~ {old} -> {new}"
    return [Change("~", "setting", "stream.allowed_future", (detail,), "decides what an event is worth")]


def _objects(kind: Kind, compared: Comparison) -> list[Change]:
    old, new = _of_kind(kind, compared.before.definitions), _of_kind(kind, compared.after.definitions)
    changes = []
    for name, model in new.items():
        if name not in old:
            changes.append(_change("+", kind, name, (), compared))
            continue
        lines = differences(written(old[name]), written(model))
        if not lines and not _is_touched(kind, name, compared):
            continue
        if is_cosmetic(written(old[name]), written(model)) and not _is_touched(kind, name, compared):
            changes.append(Change("~", kind, name, lines, "nothing is rebuilt", cosmetic=True))
        else:
            changes.append(_change("~", kind, name, lines, compared))
    return changes + [_change("-", kind, name, (), compared) for name in old if name not in new]


def _of_kind(kind: Kind, definitions: Definitions) -> dict[str, BaseModel]:
    models: dict[Kind, Sequence[BaseModel]] = {
        "entity": definitions.entities,
        "source": definitions.sources,
        "view": definitions.feature_views,
        "on-demand": definitions.on_demand_features,
        "service": definitions.feature_services,
    }
    return {str(getattr(model, "name", "")): model for model in models[kind]}


def _is_touched(kind: Kind, name: str, compared: Comparison) -> bool:
    """Whether the meaning moved although the definition may read the same: a view follows its source."""
    if kind == "view":
        return compared.before.repo.views[name].fingerprint != compared.after.repo.views[name].fingerprint
    return (
        kind == "source"
        and compared.before.repo.sources[name].meaning != compared.after.repo.sources[name].meaning
    )


def _change(sign: Sign, kind: Kind, name: str, details: tuple[str, ...], compared: Comparison) -> Change:
    services = _services(kind, name, compared.before.repo, compared.after.repo)
    if kind == "view":
        consequence, notes = _of_view(sign, name, compared)
        if not details and sign == "~":
            details = (_reason(name, compared),)
        return Change(sign, kind, name, details, consequence, notes, services)
    if kind == "source":
        consequence, notes = _of_source(sign, name, compared)
        return Change(sign, kind, name, details, consequence, notes, services)
    return Change(sign, kind, name, details, services=() if kind == "service" else services)


def _reason(view: str, compared: Comparison) -> str:
    """Why a view is rebuilt whose own definition reads as before."""
    old, new = compared.before.repo.views[view], compared.after.repo.views[view]
    if old.source.meaning != new.source.meaning:
        return f"~ its source {new.source.name} changed"
    return f"~ its entity {new.entity} changed"


def _of_view(sign: Sign, name: str, compared: Comparison) -> tuple[str, tuple[str, ...]]:
    if sign == "-":
        return "state is dropped", ()
    view = compared.after.repo.views[name]
    history = compared.present.histories.get(view.source.name)
    if sign == "~" and compared.before.repo.views[name].fingerprint == view.fingerprint:
        return "state is kept", ()
    replaces = any(build.view == name and build.status == "serving" for build in compared.present.builds)
    return rebuild_text(history, replaces=replaces), view_notes(view, history)


def _of_source(sign: Sign, name: str, compared: Comparison) -> tuple[str, tuple[str, ...]]:
    if sign == "-":
        return ("its offline log is kept" if name in compared.present.logs else ""), ()
    source = compared.after.repo.sources[name]
    notes = source_notes(source, compared.present.histories.get(name))
    about_topics: tuple[str, ...] = ()
    if name in compared.present.topics:
        about_topics = topic_notes(source, compared.present.topics[name])
    notes += about_topics
    if sign == "+":
        return "", notes
    if compared.before.repo.sources[name].meaning != source.meaning:
        return "from now on events are judged by the new meaning; its views are rebuilt", notes
    return "nothing is rebuilt", about_topics


def _services(kind: Kind, name: str, before: Repo, after: Repo) -> tuple[str, ...]:
    """Services whose answers the object has a part in, as written now or as applied before."""
    affected: dict[str, None] = {}
    for repo in (after, before):
        for service in repo.services.values():
            parts = {
                "view": [member.view.name for member in service.views],
                "entity": [member.view.entity for member in service.views],
                "source": [member.view.source.name for member in service.views],
                "on-demand": [feature.name for feature in service.on_demand],
            }.get(kind, [])
            if name in parts:
                affected[service.name] = None
    return tuple(affected)


def _new_builds(wanted: Sequence[ViewState], repo: Repo, present: Present) -> list[BuildState]:
    """The views that no live build follows; `Registry.record` settles them by the same rule."""
    followed = {(build.view, build.entity, build.fingerprint) for build in present.builds if build.is_live}
    serving = {build.view for build in present.builds if build.status == "serving"}
    steps = []
    for state in wanted:
        if (state.view, state.entity, state.fingerprint) not in followed:
            history = present.histories.get(repo.views[state.view].source.name)
            events, starts_us = (history.events, history.starts_us) if history else (None, None)
            steps.append(BuildState(state.view, state.fingerprint, state.view in serving, events, starts_us))
    return steps


def _drops(wanted: Sequence[ViewState], present: Present) -> list[DropState]:
    """States that nothing will read again: of views that are gone, of builds that never came to serve.

    A serving build whose view only changed goes on until its successor serves; `stream` drops it a while later,
    when no server reads it any more.
    """
    states = {state.view: state for state in wanted}
    steps = []
    for build in present.builds:
        state = states.get(build.view)
        follows = state is not None and (build.entity, build.fingerprint) == (state.entity, state.fingerprint)
        if state is None or (build.status == "building" and not follows):
            steps.append(DropState(build.view, build.number, build.field))
    return steps


def _summary(changes: Sequence[Change]) -> str:
    counted = {sign: [change for change in changes if change.sign == sign] for sign in ("+", "~", "-")}
    parts = [
        f"{len(counted[sign])} {verb}"
        for sign, verb in (("+", "added"), ("~", "changed"), ("-", "removed"))
        if counted[sign]
    ]
    return ", ".join(parts) or "state is built anew"

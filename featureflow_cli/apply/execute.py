"""Executes a plan, step by step. Cut off anywhere, planning and applying again does what is left."""

from collections.abc import Callable

from featureflow_cli.errors import Conflict
from featureflow_cli.evaluate import topics
from featureflow_cli.evaluate.project import Project
from featureflow_cli.plan.applied import Applied
from featureflow_cli.plan.explain import action_line
from featureflow_cli.plan.steps import (
    BuildState,
    Change,
    CreateTopic,
    DropState,
    GrowTopic,
    OpenLog,
    Plan,
    Record,
)
from featureflow_cli.times import format_timestamp


def execute(project: Project, plan: Plan, *, applied_by: str, report: Callable[[str], None]) -> Applied:
    """Carries out every step in order and returns the applied state; `report` hears of each one done.

    Raises Conflict where another apply came first: before the registry took this one, nothing has changed;
    after it, the rest is left to whoever applied last.
    """
    for step in plan.steps:
        match step:
            case Change() | BuildState():
                continue  # carried out by Record: definitions and builds change in one transaction
            case Record():
                project.registry.record(
                    definitions=step.definitions,
                    allowed_future_us=step.allowed_future_us,
                    views=step.views,
                    expected_version=step.expected_version,
                    applied_by=applied_by,
                    at_us=project.clock(),
                    summary=step.summary,
                )
            case CreateTopic():
                topics.create(project, step)
            case GrowTopic():
                topics.grow(project, step)
            case OpenLog():
                _open_log(project, step.source)
            case DropState():
                project.online.drop(step.field)
                project.registry.drop(step.number)
        report(action_line(step))
    project.relearn()
    return project.applied


def _open_log(project: Project, source: str) -> None:
    """Raises the log's meaning to the applied one, unless somebody applied another version meanwhile.

    The registry is read between the log's snapshot and the commit on it: a later apply that is done raising
    makes the commit fail, one that is not raises its own after ours.
    """
    project.relearn()
    log = project.log(source)
    snapshot = log.snapshot()
    newest = project.registry.applied()
    if newest is None or newest.version != project.applied.version:
        by = f"{newest.applied_by} at {format_timestamp(newest.applied_us)}" if newest else "somebody"
        what = f"another version was applied meanwhile by {by}"
        raise Conflict(what, hint="run: featureflow plan")
    log.raise_meaning(snapshot, order=max(newest.version, snapshot.meaning_order + 1))

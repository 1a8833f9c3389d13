"""A plan in words and as JSON: the same content, from the same steps, in the same order."""

from typing import Any, assert_never

from featureflow_cli.plan.costs import count
from featureflow_cli.plan.steps import (
    BuildState,
    Change,
    CreateTopic,
    DropState,
    GrowTopic,
    OpenLog,
    Plan,
    Record,
    Step,
)
from featureflow_cli.plan.topics import created_text, partitions_text
from featureflow_cli.times import MILLISECOND_US, format_timestamp

UP_TO_DATE = "No changes. What is written is applied."


def plan_lines(plan: Plan) -> list[str]:
    """The plan as lines; that of a change starts with its sign, what belongs to it is indented."""
    if plan.is_empty:
        return [UP_TO_DATE]
    lines: list[str] = []
    width = max((len(_title(change)) for change in plan.changes), default=0)
    for change in plan.changes:
        consequence = f"   {change.consequence}" if change.consequence else ""
        lines.append(f"{_title(change).ljust(width if consequence else 0)}{consequence}")
        lines += [f"    {detail}" for detail in change.details]
        lines += [f"    note: {note}" for note in change.notes]
        if change.services and change.sign != "+":
            lines.append(f"    answers of: {', '.join(change.services)}")
    actions = [action_line(step) for step in plan.steps if not isinstance(step, Change)]
    if lines:
        lines.append("")
    lines += ["Steps:", *(f"  {number}. {line}" for number, line in enumerate(actions, start=1)), ""]
    return [*lines, summary_line(plan)]


def summary_line(plan: Plan) -> str:
    """`1 to add, 0 to change, 0 to remove.`"""
    return f"{plan.count('+')} to add, {plan.count('~')} to change, {plan.count('-')} to remove."


def action_line(step: Step) -> str:
    """What executing the step does, in one line."""
    match step:
        case Change():
            return _title(step)
        case BuildState():
            beside = ", beside the state that serves" if step.replaces else ""
            history = f" from {count(step.events)} events" if step.events else ""
            return f"have `stream` build the state of view {step.view}{history}{beside}"
        case Record():
            return f"record version {step.expected_version + 1} in the registry"
        case CreateTopic():
            what = "topic for dead letters" if step.is_letters else "topic"
            return f"create the {what} {step.topic} ({created_text(step)})"
        case GrowTopic():
            return f"grow the topic {step.topic} from {step.before} to {partitions_text(step.partitions)}"
        case OpenLog():
            if step.is_new:
                return f"create the offline table of source {step.source}"
            return f"open the offline table of source {step.source} to its new meaning"
        case DropState():
            return f"drop the state of view {step.view} that nothing reads any more ({step.field})"
        case _:
            assert_never(step)


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: `changes` for people, `steps` for what is executed."""
    return {
        "project": plan.project,
        "target": plan.target,
        "base_version": plan.base_version,
        "has_changes": not plan.is_empty,
        "summary": {"add": plan.count("+"), "change": plan.count("~"), "remove": plan.count("-")},
        "changes": [_change_json(change) for change in plan.changes],
        "steps": [step_json(step) for step in plan.steps if not isinstance(step, Change)],
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "action": {"+": "add", "~": "change", "-": "remove"}[change.sign],
        "kind": change.kind,
        "name": change.name,
        "cosmetic": change.cosmetic,
        "details": list(change.details),
        "consequence": change.consequence,
        "notes": list(change.notes),
        "services": list(change.services),
    }


def step_json(step: Step) -> dict[str, Any]:
    """One step, with `step` naming its kind."""
    match step:
        case Change():
            return {"step": "change", **_change_json(step)}
        case BuildState():
            return {
                "step": "build_state",
                "view": step.view,
                "fingerprint": step.fingerprint,
                "replaces": step.replaces,
                "events": step.events,
                "history_starts": None if step.starts_us is None else format_timestamp(step.starts_us),
            }
        case Record():
            return {"step": "record", "version": step.expected_version + 1, "summary": step.summary}
        case CreateTopic():
            return {
                "step": "create_topic",
                "source": step.source,
                "topic": step.topic,
                "partitions": step.partitions,
                "retention_ms": None if step.retention_us is None else step.retention_us // MILLISECOND_US,
                "dead_letters": step.is_letters,
            }
        case GrowTopic():
            return {
                "step": "grow_topic",
                "source": step.source,
                "topic": step.topic,
                "before": step.before,
                "partitions": step.partitions,
            }
        case OpenLog():
            return {"step": "open_log", "source": step.source, "new": step.is_new}
        case DropState():
            return {"step": "drop_state", "view": step.view, "build": step.number, "field": step.field}
        case _:
            assert_never(step)


def _title(change: Change) -> str:
    return f"{change.sign} {change.kind} {change.name}"

"""`featureflow status`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, table
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.times import format_timestamp

if TYPE_CHECKING:
    from featureflow_cli.errors import StoreUnavailable
    from featureflow_cli.evaluate.lag import TopicLag


def status(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what is applied, what the logs hold, and how far every view's state has got.

    Example: featureflow status
    """
    from featureflow_cli.evaluate import standing
    from featureflow_cli.plan.costs import size_text

    project = invocation(ctx).project()
    applied = project.applied
    drift = project.drift()
    found_sources, found_views = standing.sources(project), standing.views(project)
    topics = standing.topics(project)
    lags = standing.view_lags(project, topics)
    up_to_date = {view.name: view.is_up_to_date(lags) for view in found_views}
    if as_json:
        show_json(
            {
                "project": project.config.project,
                "target": project.target,
                "applied": {
                    "version": applied.version,
                    "applied_at": format_timestamp(applied.applied_us),
                    "applied_by": applied.applied_by,
                    "summary": applied.summary,
                },
                "unapplied_edits": drift is not None,
                "sources": [
                    {
                        **{key: value for key, value in asdict(source).items() if key != "newest_us"},
                        "newest": None if source.newest_us is None else format_timestamp(source.newest_us),
                        "kafka": _topic_json(topics.get(source.name)),
                    }
                    for source in found_sources
                ],
                "views": [
                    {**asdict(view), "lag": lags.get(view.name), "up_to_date": up_to_date[view.name]}
                    for view in found_views
                ],
                "online_bytes": project.online.bytes_held(),
            }
        )
        return
    target = f" (target {project.target})" if project.target else ""
    show(
        f"{project.config.project}{target}: version {applied.version}, applied"
        f" {format_timestamp(applied.applied_us)[:19]}Z by {applied.applied_by}"
    )
    show("")
    show(
        table(
            ["SOURCE", "EVENTS", "NEWEST", "FILES", "SIZE", "DEAD LETTERS"],
            [
                (
                    source.name,
                    source.events,
                    source.newest_us and f"{format_timestamp(source.newest_us)[:19]}Z",
                    None if source.name in topics else f"{source.files_read}/{source.files_listed}",
                    size_text(source.bytes),
                    source.letters,
                )
                for source in found_sources
            ],
        )
    )
    rows = [row for topic in topics.values() for row in _topic_rows(topic)]
    if rows:
        show("")
        show(table(["TOPIC", "PARTITION", "FIRST", "END", "LOGGED", "LAG", "COMMITTED"], rows))
    show("")
    lag = ["LAG"] if topics else []
    show(
        table(
            ["VIEW", "STATE", "ENTITIES", *lag, "UP TO DATE"],
            [
                (
                    view.name,
                    view.status,
                    view.entities,
                    *(_known(lags[view.name], "?") if view.name in lags else None for _ in lag),
                    _known(up_to_date[view.name], "unknown"),
                )
                for view in found_views
            ],
        )
    )
    show("")
    show(f"online state: {size_text(project.online.bytes_held())}")
    if drift:
        say(drift)
    for name, topic in topics.items():
        for line in _topic_talk(name, topic):
            say(line)
    if False in up_to_date.values():
        say("Run: featureflow stream --once")


def _known(value: int | None, otherwise: str) -> int | str:
    return otherwise if value is None else value


def _topic_rows(topic: "TopicLag | StoreUnavailable") -> list[tuple[object, ...]]:
    if isinstance(topic, FeatureflowError):
        return []
    return [
        (topic.topic, part.partition, part.first, part.end, part.logged, part.lag, part.committed)
        for part in topic.partitions
    ]


def _topic_talk(source: str, topic: "TopicLag | StoreUnavailable") -> list[str]:
    """What a table of numbers does not say."""
    if isinstance(topic, FeatureflowError):
        return [f"source {source}: its lag is not known. {topic}"]
    lines = []
    if topic.is_replaced:
        lines.append(
            f"source {source}: topic {topic.topic} is not the one that its log was read from: it was deleted"
            " and created anew, and its offsets mean other events; `stream` refuses it"
        )
    if gone := sum(part.gone for part in topic.partitions):
        lines.append(f"source {source}: {gone:,} events left topic {topic.topic} before they were streamed")
    return lines


def _topic_json(topic: "TopicLag | StoreUnavailable | None") -> dict[str, object] | None:
    if topic is None:
        return None
    if isinstance(topic, FeatureflowError):
        return {"error": topic.what}
    return {
        "topic": topic.topic,
        "group": topic.group,
        "replaced": topic.is_replaced,
        "lag": topic.lag,
        "partitions": [{**asdict(part), "lag": part.lag, "gone": part.gone} for part in topic.partitions],
    }

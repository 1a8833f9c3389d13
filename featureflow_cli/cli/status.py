"""`featureflow status`."""

from dataclasses import asdict
from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, table
from featureflow_cli.times import format_timestamp


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
                    }
                    for source in found_sources
                ],
                "views": [asdict(view) for view in found_views],
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
                    f"{source.files_read}/{source.files_listed}",
                    size_text(source.bytes),
                    source.letters,
                )
                for source in found_sources
            ],
        )
    )
    show("")
    show(
        table(
            ["VIEW", "STATE", "ENTITIES", "UP TO DATE"],
            [(view.name, view.status, view.entities, view.is_up_to_date) for view in found_views],
        )
    )
    show("")
    show(f"online state: {size_text(project.online.bytes_held())}")
    if drift:
        say(drift)
    if not all(view.is_up_to_date for view in found_views):
        say("Run: featureflow stream --once")

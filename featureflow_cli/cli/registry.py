"""`featureflow registry history`."""

from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json, table
from featureflow_cli.times import format_timestamp


def history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Who applied what, and when; newest first.

    Example: featureflow registry history --limit 5
    """
    versions = invocation(ctx).project().registry.history()[:limit]
    if as_json:
        show_json(
            [
                {
                    "version": version.version,
                    "applied_at": format_timestamp(version.applied_us),
                    "applied_by": version.applied_by,
                    "summary": version.summary,
                }
                for version in versions
            ]
        )
    elif not versions:
        say("Nothing is applied yet. Run: featureflow apply")
    else:
        rows = [
            (version.version, format_timestamp(version.applied_us), version.applied_by, version.summary)
            for version in versions
        ]
        show(table(["VERSION", "APPLIED AT", "BY", "SUMMARY"], rows))

"""`featureflow sweep`."""

from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show, show_json


def sweep(
    ctx: typer.Context,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Drop them; without it they are only named.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Name the states in the online store that the registry does not know, and drop them with -y.

    A registry that was lost leaves such states behind. Where targets share an online store but not a registry,
    each takes the other's states for such ones: do not sweep there.

    Example: featureflow sweep
    """
    from featureflow_cli.evaluate import remains

    project = invocation(ctx).project()
    fields = remains.remains(project)
    if yes:
        remains.sweep(project, fields)
    if as_json:
        show_json({"fields": fields, "dropped": yes})
        return
    if not fields:
        show("The registry knows all states in the online store.")
        return
    for field in fields:
        show(field)
    if yes:
        say(f"Dropped {len(fields)}.")
    else:
        say(
            "The registry knows none of these states. Unless another target's does, run: featureflow sweep -y"
        )

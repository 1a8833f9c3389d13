"""`featureflow serve`."""

from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say


def serve(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: the store's `server`).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
) -> None:
    """Serve the applied features over HTTP, until SIGTERM or Ctrl-C. /docs shows the endpoints.

    Example: featureflow serve --port 6566
    """
    from featureflow_cli.serve.server import serve as run

    project = invocation(ctx).project()
    server = project.config.server
    if drift := project.drift():
        say(drift)
    run(
        project,
        host=host or server.host,
        port=server.port if port is None else port,
        workers=workers,
        ready=lambda url: say(
            f"serving {project.repo.project} at {url} (docs: {url}/docs; stop with Ctrl-C)"
        ),
    )

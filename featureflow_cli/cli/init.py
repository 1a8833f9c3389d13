"""`featureflow init`: a new project from a template."""

from pathlib import Path
from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import say, show
from featureflow_cli.init.templates import Template, create

FIRST_STEPS = {
    "ecommerce": (
        "featureflow generate --events 200000 --labels 5000",
        "featureflow apply",
        "featureflow stream --once",
        "featureflow build-dataset --labels data/labels.parquet --service ranking_v1 "
        "--output data/train.parquet",
        "featureflow serve",
    ),
    "minimal": (
        "featureflow test",
        "featureflow apply",
        "featureflow stream --once        (reads data/events/*.csv)",
    ),
}


def init(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the project goes.")] = Path(),
    template: Annotated[
        Template, typer.Option(help="ecommerce: the shop, with data to generate; minimal: one view.")
    ] = "ecommerce",
) -> None:
    """Start a project from a template. Nothing that exists is overwritten.

    Example: featureflow init shop --template ecommerce
    """

    created = create(invocation(ctx).path(directory), template)
    for name in created.files:
        show(str(created.directory / name))
    say("\nNext:")
    if created.directory.resolve() != Path.cwd():
        say(f"  cd {created.directory}")
    for step in FIRST_STEPS[template]:
        say(f"  {step}")

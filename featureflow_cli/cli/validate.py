"""`featureflow validate` and `featureflow schema`."""

from enum import StrEnum
from typing import Annotated

import typer

from featureflow_cli.cli.invocation import invocation
from featureflow_cli.cli.output import show, show_json
from featureflow_cli.errors import DefinitionError


def validate(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Problems as JSON, on stdout.")] = False,
) -> None:
    """Check the definitions as written and report every problem at once. Opens no store.

    Example: featureflow validate
    """
    from featureflow_cli.evaluate.catalogue import counts

    project = invocation(ctx).project()
    try:
        repo = project.written_repo
    except DefinitionError as err:
        if not as_json:
            raise
        problems = [
            {"at": problem.at, "what": problem.what, "hint": problem.hint} for problem in err.problems
        ]
        show_json({"valid": False, "problems": problems})
        raise typer.Exit(err.exit_code) from err
    if as_json:
        show_json({"valid": True, "problems": [], "objects": counts(repo)})
    else:
        found = ", ".join(f"{number} {kind}" for kind, number in counts(repo).items() if number)
        show(f"{repo.project}: no problems ({found or 'nothing is defined yet'})")


class Document(StrEnum):
    FEATURES = "features"
    STORE = "store"


def schema(
    ctx: typer.Context,
    document: Annotated[
        Document, typer.Argument(help="Files under features/, or feature_store.yaml (`store`).")
    ] = Document.FEATURES,
) -> None:
    """Print the JSON Schema of the YAML files, for editors that complete and check while you type.

    Example: featureflow schema store > store.schema.json
    """
    from featureflow_cli.spec.schema import features_schema, store_schema

    show_json(features_schema() if document is Document.FEATURES else store_schema())

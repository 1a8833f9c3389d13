"""Templates that `init` copies: they ship in the wheel, and in a checkout they are the folders themselves."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featureflow_cli.errors import UsageError
from featureflow_cli.spec.repo import STORE_FILE
from featureflow_cli.spec.schema import features_schema, store_schema

Template = Literal["ecommerce", "minimal"]

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = {"ecommerce": "example_repo", "minimal": "templates/minimal"}
"""Where a checkout (an editable install) has what the wheel ships as `featureflow_cli/templates/NAME`."""
LEFT_OUT = {"data", ".featureflow"}
STORE_SCHEMA = ".featureflow/store.schema.json"
FEATURES_SCHEMA = ".featureflow/features.schema.json"


@dataclass(frozen=True)
class Created:
    """The new project: `files` relative to `directory`, in order."""

    directory: Path
    files: tuple[str, ...]


def create(directory: Path, template: Template) -> Created:
    """Copy `template` into `directory`, with JSON Schemas for editors and the headers that point at them.

    UsageError where a file of the template exists there already: nothing is overwritten, and then nothing is
    written either.
    """
    texts = {
        STORE_SCHEMA: json.dumps(store_schema(), indent=1) + "\n",
        FEATURES_SCHEMA: json.dumps(features_schema(), indent=1) + "\n",
    }
    for name, text in read(template).items():
        texts[name] = _with_schema_header(name, text) if name.endswith(".yaml") else text
    if taken := sorted(name for name in texts if (directory / name).exists()):
        message = f"{directory / taken[0]} exists already, and init overwrites nothing"
        raise UsageError(message, hint="name another folder: featureflow init DIR")
    if directory.exists() and not directory.is_dir():
        message = f"{directory} is a file"
        raise UsageError(message, hint="name another folder: featureflow init DIR")
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Created(directory, tuple(sorted(texts)))


def read(template: Template) -> dict[str, str]:
    """Relative name -> text of every file of `template`, by name; not what was made by running it."""
    root = _root(template)
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*"))
        if path.is_file() and not LEFT_OUT.intersection(path.relative_to(root).parts)
    }


def _root(template: Template) -> Path:
    shipped = PACKAGE / "templates" / template
    return shipped if shipped.is_dir() else PACKAGE.parent / CHECKOUT[template]


def _with_schema_header(name: str, text: str) -> str:
    """Editors' YAML support reads this line: completion, documentation and errors while typing."""
    schema = STORE_SCHEMA if name == STORE_FILE else FEATURES_SCHEMA
    return f"# yaml-language-server: $schema={'../' * name.count('/')}{schema}\n{text}"

"""Pydantic's findings in the words and the places of the user's YAML."""

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from featureflow_cli.errors import Problem, did_you_mean
from featureflow_cli.spec import models, vocabulary
from featureflow_cli.spec.places import Node, Path, Place
from featureflow_cli.spec.reading import awaits_variable

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping (`key: value`)",
    "model": "a mapping (`key: value`)",
}
_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def explain(err: ValidationError, model: type[BaseModel], node: Node) -> list[Problem]:
    """Problems of one object that did not fit `model`; `node` is what was written for it."""
    found: dict[Path, list[Mapping[str, Any]]] = {}
    nodes: dict[Path, Node] = {}
    for details in err.errors(include_url=False):
        path, at = _resolve(node, details["loc"])
        if not (at.flawed or awaits_variable(at)):
            nodes[path] = at
            found.setdefault(path, []).append(dict(details))
    misspelt: dict[Path, str] = {}
    problems = []
    for path, every in found.items():
        for error in every:
            if error["type"] == "extra_forbidden":
                problem = _unknown_key(model, path, nodes[path])
                misspelt[path[:-1]] = misspelt.get(path[:-1], "") + problem.hint
                problems.append(problem)
    for path, every in found.items():
        at = nodes[path]
        for error in every:
            name = str(error["loc"][-1]) if error["loc"] else ""
            if error["type"] == "missing" and not re.search(rf"['`]{name}['`:]", misspelt.get(path, "")):
                called = _called(_model_at(model, path), at)
                problems.append(_first_key(at).problem(f"{called} needs `{name}`"))
        values = [error for error in every if error["type"] not in {"extra_forbidden", "missing"}]
        if len(values) < len(every) or any(other != path and other[: len(path)] == path for other in found):
            # Another member of a union fits better, and what is wrong with it is said here or below.
            values = [error for error in values if not error["type"].endswith(("_type", "too_short"))]
        if values:
            problems.append(_value(values, path, at))
    return problems


def _resolve(node: Node, loc: Sequence[str | int]) -> tuple[Path, Node]:
    """Follow pydantic's location through what was written; names of union members are left out."""
    path: Path = ()
    for step in loc:
        below = node.child(step)
        if below is not None:
            path, node = (*path, step), below
    return path, node


def _unknown_key(model: type[BaseModel], path: Path, at: Node) -> Problem:
    """`path` ends with the key."""
    owner, name = _model_at(model, path[:-1]), str(path[-1])
    known = _keys(owner)
    place = at.key or at.place
    hint = vocabulary.SAID_HERE.get((owner, name), "")
    if owner is models.Feature:
        near = did_you_mean(name, models.AGGREGATIONS)
        hint = hint or near or did_you_mean(name, known)
        if near and near == hint:
            return place.problem(f"unknown aggregation '{name}'", hint)
        return place.problem(f"unknown aggregation or key '{name}'", hint or f"known: {', '.join(known)}")
    hint = hint or did_you_mean(name, known) or f"known: {', '.join(known)}"
    return place.problem(f"unknown key '{name}' in {vocabulary.NOUNS.get(owner, 'this mapping')}", hint)


def _value(errors: Sequence[Mapping[str, Any]], path: Path, at: Node) -> Problem:
    """A value that does not fit: of a union's several findings one sentence."""
    error = errors[0]
    place = (at.key or at.place) if error["loc"][-1:] == ("[key]",) else at.place
    subject = _subject(path)
    expected = list(dict.fromkeys(text for each in errors if (text := _EXPECTED.get(_stem(each["type"])))))
    if at.variables:
        wanted = f": {' or '.join(expected)} is expected" if expected else ""
        return place.problem(
            f"the value of ${{env:{at.variables[0]}}} does not fit {subject or 'here'}{wanted}"
        )
    if expected and error["type"] != "value_error":
        what = f"{subject or 'this'} should be {' or '.join(expected)}, not {_shown(at)}"
        return place.problem(what, _shape_hint(expected, at))
    if error["type"] == "string_pattern_mismatch":
        return _bad_name(error, place, str(error["input"]))
    if error["type"] == "literal_error":
        known = [part.strip(" '") for part in str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        hint = did_you_mean(str(at.content), known)
        return place.problem(f"{subject} cannot be {_shown(at)}: it is {_any_of(known)}", hint)
    if error["type"] in _LIMITS:
        key, words = _LIMITS[error["type"]]
        return place.problem(f"{subject} should be {words} {error['ctx'][key]:g}, not {_shown(at)}")
    if error["type"] == "too_short":
        return place.problem(f"{subject} needs at least one entry")
    what = str(error.get("ctx", {}).get("error", error["msg"]))
    if isinstance(at.content, Mapping):
        place = _first_key(at)
    return place.problem(*_worded(what, subject, at))


def _worded(what: str, subject: str, at: Node) -> tuple[str, str]:
    """A ValueError of our own models, with a hint where one helps."""
    if "is not a duration" in what or what.startswith("write a duration"):
        what = f"{subject} is {_shown(at)}, which is not a duration"
        or_else = {"`resolution`": ", or exact", "`window`": ", or forever"}.get(subject, "")
        return what, f"write a number and us, ms, s, m, h or d: 90s, 15m, 1h, 7d{or_else}"
    if subject == "`until`":
        return f"{subject} is {_shown(at)}: {what}", "write 2026-01-01 or 2026-01-01T10:00:00Z"
    if what.startswith("unknown type"):
        near = did_you_mean(what.split("'")[1], ("bool", "int64", "double", "string", "timestamp", "date"))
        unknown = what.split("'")[1]
        synonym = vocabulary.TYPES.get(unknown.lower(), "")
        return what, f"did you mean '{synonym}'?" if synonym else near
    if what.startswith("a feature is one aggregation"):
        named = [name for name in models.AGGREGATIONS if at.child(name) is not None]
        feature = _called(models.Feature, at)
        if named:
            hint = "keep one here; give the other a feature of its own"
            return f"{feature} has {len(named)} aggregations: {', '.join(named)}", hint
        return f"{feature} has no aggregation", f"name one: {', '.join(models.AGGREGATIONS)}"
    return what, ""


def _bad_name(error: Mapping[str, Any], place: Place, written: str) -> Problem:
    if "window" in str(error["ctx"]["pattern"]) and "{" in written:
        return place.problem(
            f"'{written}' is not a feature's name",
            "only {window} may stand in braces, once, after a letter or _",
        )
    return place.problem(
        f"'{written}' is not a name", "letters, digits and _ only, not starting with a digit"
    )


def _shape_hint(expected: Sequence[str], at: Node) -> str:
    if "text" in expected:
        if isinstance(at.content, Mapping) and set(at.content) == {"window"}:
            return 'quote it: "{window}"'
        if isinstance(at.content, (bool, int, float)):
            return f'quote it: "{at.text}"'
    if "a list" in expected and isinstance(at.content, str):
        return f"write [{at.content}]" if "," not in at.content else ""
    return ""


def _shown(at: Node) -> str:
    """What stands there, in a few words."""
    if isinstance(at.content, Mapping):
        return "a mapping"
    if isinstance(at.content, tuple):
        return "a list"
    if at.content is None:
        return "empty"
    text = at.text if len(at.text) <= 60 else at.text[:57] + "…"
    if isinstance(at.content, bool):
        return f"the bool {text}"
    return f"the number {text}" if isinstance(at.content, (int, float)) else f"'{text}'"


def _subject(path: Path) -> str:
    names = [step for step in path if isinstance(step, str)]
    return (
        f"`{names[-1]}`"
        if names and path and isinstance(path[-1], str)
        else (f"an entry of `{names[-1]}`" if names else "")
    )


def _called(owner: type[BaseModel], at: Node) -> str:
    noun = vocabulary.NOUNS.get(owner, "this mapping")
    name = at.child("name")
    if name is None or not isinstance(name.content, str) or name.variables:
        return noun
    return f"{noun.split(' ', 1)[-1]} '{name.content}'"


def _first_key(at: Node) -> Place:
    """Where an object starts: its first key reads better in an excerpt than its brace."""
    if isinstance(at.content, Mapping):
        for child in at.content.values():
            if child.key is not None:
                return child.key
    return at.place


def _any_of(known: Sequence[str]) -> str:
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} or {known[-1]}"


def _stem(kind: str) -> str:
    return kind.partition("_")[0] if kind.endswith(("_type", "_parsing", "_from_float")) else ""


def _keys(model: type[BaseModel]) -> list[str]:
    """Known keys, the cosmetic ones last."""
    keys = {
        field.alias or name: name in models.Described.model_fields
        for name, field in model.model_fields.items()
    }
    return sorted(keys, key=lambda key: keys[key])


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """The model that describes the mapping at `path` below `model`; `BaseModel` where it is a plain one."""
    kinds: list[Any] = [model]
    for step in path:
        kinds = [below for kind in kinds for below in _below(kind, step)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), BaseModel)


def _below(kind: Any, step: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = next((f for name, f in kind.model_fields.items() if (f.alias or name) == step), None)
        return _members(field.annotation) if field is not None else []
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {tuple, list} and isinstance(step, int):
        return _members(arguments[0])
    if origin is dict and isinstance(step, str):
        return _members(arguments[1])
    return []


def _members(annotation: Any) -> list[Any]:
    """A union's members, without Annotated; one member for any other type."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType, typing.Union}:
        return [member for each in get_args(annotation) for member in _members(each)]
    return [annotation]

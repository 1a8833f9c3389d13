"""What differs between two versions of one definition, in the user's own words.

A definition is compared as the YAML spells it; features and columns are compared by name, and their order
is a difference of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

COSMETIC = {"description", "owner", "tags"}
LISTS = {"features": "feature", "schema": "column"}
Written = Mapping[str, Any]


def written(model: BaseModel) -> dict[str, Any]:
    """The definition as the YAML spells it; what was left out is left out."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def differences(before: Written, after: Written) -> tuple[str, ...]:
    """One line per difference, in the order of the definition's own fields; empty where there is none."""
    lines: list[str] = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if old == new and _order(key, old) == _order(key, new):
            continue
        if (
            key in LISTS
            and (old_parts := _by_name(old)) is not None
            and (new_parts := _by_name(new)) is not None
        ):
            lines += _parts(LISTS[key], old_parts, new_parts)
        else:
            lines += _value(key, old, new)
    return tuple(lines)


def is_cosmetic(before: Written, after: Written) -> bool:
    """Whether nothing but descriptions, owners, tags and order differ."""
    return bool(_meaning(before) == _meaning(after))


def _meaning(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _meaning(part, name) for name, part in value.items() if name not in COSMETIC}
    if key in LISTS and (parts := _by_name(value)) is not None:
        return {name: _meaning(part) for name, part in parts.items()}
    return value


def _by_name(parts: Any) -> Mapping[str, Any] | None:
    """Features and columns by name; None for a list of references, where the order does count."""
    if parts is None:
        return {}
    if isinstance(parts, Mapping):
        return parts
    if isinstance(parts, Sequence) and all(isinstance(part, Mapping) and "name" in part for part in parts):
        return {part["name"]: part for part in parts}
    return None


def _order(key: str, value: Any) -> list[str]:
    """Mappings are equal in any order; a source's columns come in the order written."""
    return list(value) if key in LISTS and isinstance(value, Mapping) else []


def _parts(noun: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"+ {noun} {name}" for name in new if name not in old]
    lines += [f"- {noun} {name}" for name in old if name not in new]
    for name in new:
        if name in old and old[name] != new[name]:
            if isinstance(old[name], Mapping) and isinstance(new[name], Mapping):
                inner = [line.removeprefix("~ ") for line in differences(old[name], new[name])]
            else:
                inner = [f"{_text(old[name])} -> {_text(new[name])}"]
            lines.append(f"~ {noun} {name}: {', '.join(inner)}")
    if not lines and list(old) != list(new):
        lines.append(f"~ {noun}s in another order")
    return lines


def _value(key: str, old: Any, new: Any) -> list[str]:
    if (
        isinstance(old, list)
        and isinstance(new, list)
        and all(isinstance(part, str) for part in [*old, *new])
    ):
        gone = [f"- {key} {part}" for part in old if part not in new]
        come = [f"+ {key} {part}" for part in new if part not in old]
        return [*come, *gone] or [f"~ {key}: in another order"]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [f"~ {key}.{line.removeprefix('~ ')}" for line in differences(old, new)]
    if old is None:
        return [f"~ {key} {_text(new)} (was not set)"]
    if new is None:
        return [f"~ {key} is no longer set (was {_text(old)})"]
    return [f"~ {key} {_text(old)} -> {_text(new)}"]


def _text(value: Any) -> str:
    """A value on one line, the way YAML would flow it; cut where it is long."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {_text(part)}" for key, part in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(_text(part) for part in value) + "]"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

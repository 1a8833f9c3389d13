"""A repo on disk -> checked models with their places; every problem of every file at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from featureflow_cli.errors import DefinitionError, NotFound, Problem, UsageError, did_you_mean
from featureflow_cli.spec import models
from featureflow_cli.spec.explain import explain
from featureflow_cli.spec.models import Definitions, StoreConfig
from featureflow_cli.spec.places import Node, Place, PlacedProblem, Positions, YamlFile
from featureflow_cli.spec.places import Path as SpecPath
from featureflow_cli.spec.reading import concatenate, interpolate, merge, read

STORE_FILE = "feature_store.yaml"
DEFINITIONS_FOLDER = "features"
KINDS: Mapping[str, type[BaseModel]] = {
    "entities": models.Entity,
    "sources": models.Source,
    "feature_views": models.FeatureView,
    "on_demand_features": models.OnDemandFeature,
    "feature_services": models.FeatureService,
    "unit_tests": models.UnitTest,
}
LATE: Sequence[SpecPath] = tuple(
    ("stream", "kafka", key) for key in ("bootstrap_servers", "config", "schema_registry")
)
"""In a source: connections, whose environment variables are put in at their use (spec/variables.py)."""
Broken = frozenset[tuple[str, str]]
"""(kind, name) of what was written but does not hold together: references to it are not called unknown."""


@dataclass(frozen=True)
class LoadedRepo:
    """A repo's definitions as written. `target` is None where no overlay was asked for."""

    root: Path
    target: str | None
    config: StoreConfig
    definitions: Definitions
    positions: Positions


def load(root: Path, target: str | None, environ: Mapping[str, str]) -> LoadedRepo:
    """Read and check the repo at `root`.

    Only variables that the chosen target and the definitions use must be set in `environ`. Raises
    DefinitionError with all problems, sorted by place; UsageError where there is no repo or no such target.
    """
    _require(root)
    problems: list[Problem] = []
    config, config_node = _config(root, target, environ, problems)
    definitions, tree, broken = _definitions(root, environ, problems)
    if config_node is not None:
        tree = {**tree, "feature_store": config_node}
    positions = Positions(_root(root, tree))
    problems += _check(config or StoreConfig(project="unknown"), definitions, positions, broken)
    if problems:
        raise DefinitionError(in_order(problems))
    assert config is not None
    return LoadedRepo(root, target, config, definitions, positions)


def load_config(root: Path, target: str | None, environ: Mapping[str, str]) -> StoreConfig:
    """feature_store.yaml alone, with the target merged in; raises as `load` does, for its problems only."""
    _require(root)
    problems: list[Problem] = []
    config, _ = _config(root, target, environ, problems)
    if problems:
        raise DefinitionError(in_order(problems))
    assert config is not None
    return config


def load_definitions_json(text: str) -> Definitions:
    """What `dump_definitions_json` wrote, equal to what was dumped."""
    return Definitions.model_validate_json(text)


def dump_definitions_json(definitions: Definitions) -> str:
    """Definitions as JSON in the YAML's own words; defaults are written out and so never change later."""
    return definitions.model_dump_json(by_alias=True, exclude_none=True)


def in_order(problems: list[Problem]) -> list[Problem]:
    """Sorted by file, line and column, without repetitions."""
    return sorted(
        dict.fromkeys(problems),
        key=lambda problem: problem.order if isinstance(problem, PlacedProblem) else (problem.at, 0, 0),
    )


def _require(root: Path) -> None:
    if not (root / STORE_FILE).is_file():
        other = root / "feature_store.yml"
        hint = (
            f"rename {other.name} to {STORE_FILE}"
            if other.is_file()
            else ("run `featureflow init`, or name the repo's folder with -c DIR")
        )
        message = f"there is no {STORE_FILE} in {root}"
        raise UsageError(message, hint=hint)


def _check(
    config: StoreConfig, definitions: Definitions, positions: Positions, broken: Broken
) -> list[Problem]:
    from featureflow_cli.spec.checks import check

    return check(config, definitions, positions, broken)


def _config(
    root: Path, target: str | None, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[StoreConfig | None, Node | None]:
    tree = _read(root / STORE_FILE, root, problems)
    if tree is None:
        return None, None
    entries = _entries(tree, STORE_FILE, problems)
    if entries is None:
        return None, None
    overlays = entries.get("targets")
    base = tree.with_content({key: node for key, node in entries.items() if key not in {"targets", *KINDS}})
    for kind in KINDS:
        if (misplaced := entries.get(kind)) is not None and misplaced.key is not None:
            problems.append(
                misplaced.key.problem(
                    f"`{kind}` does not belong in {STORE_FILE}", "move it to a file under features/"
                )
            )
    targets = (_entries(overlays, "targets", problems) or {}) if overlays is not None else {}
    if target is not None and target not in targets:
        message = f"there is no target '{target}' in {STORE_FILE}"
        known = ", ".join(targets) or "none is defined"
        raise NotFound(message, hint=did_you_mean(target, targets) or f"targets: {known}")
    for name, overlay in targets.items():
        if name != target and _entries(overlay, f"target '{name}'", problems) is not None:
            _validate(StoreConfig, merge(base, overlay), problems)
    merged = merge(base, targets[target]) if target is not None else base
    filled, missing = interpolate(merged, environ)
    problems += missing
    config = _validate(StoreConfig, filled, problems)
    return (config if isinstance(config, StoreConfig) else None), filled


def _definitions(
    root: Path, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[Definitions, dict[str, Node], Broken]:
    """All files' lists, joined in order of file and line; what does not hold together is left out."""
    parts: dict[str, list[Node]] = {kind: [] for kind in KINDS}
    for path in _files(root / DEFINITIONS_FOLDER):
        tree = _read(path, root, problems)
        entries = _entries(tree, "the file", problems) if tree is not None else None
        for key, node in (entries or {}).items():
            if key in KINDS:
                part, missing = interpolate(node, environ, LATE if key == "sources" else ())
                problems += missing
                parts[key].append(part)
            else:
                problems.append(_unknown_kind(key, node))
    tree_by_kind: dict[str, Node] = {}
    objects: dict[str, tuple[BaseModel, ...]] = {}
    broken: set[tuple[str, str]] = set()
    for kind, model in KINDS.items():
        for part in parts[kind]:
            if not isinstance(part.content, tuple) and part.content is not None:
                problems.append(
                    part.place.problem(f"`{kind}` should be a list", "start each entry with `- `")
                )
        nodes = concatenate(parts[kind]).content if parts[kind] else ()
        assert isinstance(nodes, tuple)
        good: list[tuple[Node, BaseModel]] = []
        for node in nodes:
            held = _validate(model, node, problems)
            name = node.child("name")
            if held is not None and not node.has_flaw:
                good.append((node, held))
            elif name is not None:
                broken.add((kind, str(name.content)))
        objects[kind] = tuple(held for _, held in good)
        if parts[kind]:
            tree_by_kind[kind] = replace(parts[kind][0], content=tuple(node for node, _ in good))
    return Definitions.model_construct(None, **objects), tree_by_kind, frozenset(broken)


def _files(folder: Path) -> list[Path]:
    """Every *.yaml and *.yml below, hidden ones left out, in order of name."""
    found = (path for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern) if path.is_file())
    visible = (
        path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def _read(path: Path, root: Path, problems: list[Problem]) -> Node | None:
    name = path.relative_to(root).as_posix()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as err:
        problems.append(Problem(at=name, what=f"cannot be read: {err.strerror}"))
        return None
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        problems.append(
            Problem(at=f"{name}:{line}:1", what="this line is not UTF-8", hint="save the file as UTF-8")
        )
        return None
    tree, found = read(YamlFile(name, text.replace("\r\n", "\n")))
    problems += found
    return tree


def _entries(node: Node, what: str, problems: list[Problem]) -> Mapping[str, Node] | None:
    if isinstance(node.content, Mapping):
        return node.content
    if node.content is not None:
        problems.append(node.place.problem(f"{what} should be a mapping (`key: value`)"))
    return None


def _unknown_kind(key: str, node: Node) -> Problem:
    place = node.key or node.place
    if key in StoreConfig.model_fields or key == "targets":
        return place.problem(
            f"`{key}` does not belong under {DEFINITIONS_FOLDER}/", f"move it to {STORE_FILE}"
        )
    return place.problem(f"unknown key '{key}'", did_you_mean(key, KINDS) or f"known: {', '.join(KINDS)}")


def _validate(model: type[BaseModel], node: Node, problems: list[Problem]) -> BaseModel | None:
    try:
        # By alias only: each concept has exactly one spelling.
        return model.model_validate(node.plain(), by_alias=True, by_name=False)
    except ValidationError as err:
        problems += explain(err, model, node)
        return None


def _root(root: Path, tree: Mapping[str, Node]) -> Node | None:
    if not tree:
        return None
    return Node(Place(YamlFile(str(root), ""), 1, 1), tree)

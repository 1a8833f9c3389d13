"""Checks of feature views: their source's columns, their time to live, and what a service may ask of them."""

from featureflow_cli.spec.check_features import check_feature, check_rank
from featureflow_cli.spec.fields import FOREVER
from featureflow_cli.spec.fingerprints import expanded_name, windows_of
from featureflow_cli.spec.models import Entity, Feature, FeatureView, Source
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.results import described
from featureflow_cli.spec.scope import Scope, columns_of, nearest
from featureflow_cli.spec.types import ColumnType
from featureflow_cli.times import format_duration, parse_duration


def check_view(scope: Scope, path: Path, view: FeatureView) -> None:
    """Reports what is wrong, and leaves the view's features with their types in `scope.outputs`."""
    entity = scope.find("entities", scope.entities, view.entity, (*path, "entity"))
    source = scope.find("sources", scope.sources, view.source, (*path, "source"))
    if entity is not None and source is not None:
        _join_keys(scope, path, view, entity, source)
    if source is not None:
        schema = columns_of(source)
        scope.condition((*path, "where"), view.where, schema)
        scope.condition((*path, "deleted"), view.deleted, schema)
    of_kind = _features if view.latest is None else _latest
    outputs = of_kind(scope, path, view, source)
    _ttl(scope, path, view)
    scope.outputs.setdefault(view.name, outputs)


def _join_keys(scope: Scope, path: Path, view: FeatureView, entity: Entity, source: Source) -> None:
    for name in view.join_keys:
        if name not in entity.join_keys:
            scope.report(
                (*path, "join_keys", name),
                f"entity '{entity.name}' has no join key '{name}'",
                nearest(name, entity.join_keys),
                key=True,
            )
    for name, key_type in entity.join_keys.items():
        is_mapped = name in view.join_keys
        column = view.join_keys.get(name, name)
        at = (*path, "join_keys", name) if is_mapped else (*path, "source")
        if column not in source.columns:
            hint = (
                nearest(column, source.columns)
                if is_mapped
                else (f"write join_keys: {{{name}: COLUMN}} on the view if the source calls it otherwise")
            )
            scope.report(
                at, f"source '{source.name}' has no column '{column}' for entity '{entity.name}'", hint
            )
        elif source.columns[column].type != key_type:
            scope.report(
                at,
                f"column '{column}' of source '{source.name}' is {described(source.columns[column].type)},"
                f" but join key '{name}' of entity '{entity.name}' is {described(key_type)}",
                "give both the same type",
            )


def _latest(
    scope: Scope, path: Path, view: FeatureView, source: Source | None
) -> dict[str, ColumnType | None]:
    outputs: dict[str, ColumnType | None] = {}
    if not view.latest:
        scope.report((*path, "latest"), f"view '{view.name}' has no columns in `latest`")
    for index, name in enumerate(view.latest or ()):
        at = (*path, "latest", index)
        if name in outputs:
            scope.report(at, f"column '{name}' is in `latest` twice")
        outputs[name] = None if source is None else scope.column(source, name, at)
    return outputs


def _features(
    scope: Scope, path: Path, view: FeatureView, source: Source | None
) -> dict[str, ColumnType | None]:
    outputs: dict[str, ColumnType | None] = {}
    first: dict[str, tuple[Path, str]] = {}
    if not view.features:
        scope.report((*path, "features"), f"view '{view.name}' has no features")
    for index, feature in enumerate(view.features or ()):
        at = (*path, "features", index)
        answers = check_feature(scope, at, feature, source)
        for window in windows_of(feature):
            name = expanded_name(feature, window)
            earlier_at, earlier = first.setdefault(name.casefold(), (at, name))
            if earlier_at != at:
                what = f"view '{view.name}' has two features named '{name}'"
                if earlier != name:
                    what = f"features '{earlier}' and '{name}' differ in case only"
                hint = f"the first one is at {scope.positions.at((*earlier_at, 'name'))}"
                scope.report((*at, "name"), what, hint)
            outputs.setdefault(name, answers)
    ranked = {
        expanded_name(feature, window): (feature, window)
        for feature in view.features or ()
        for window in windows_of(feature)
    }
    for index, feature in enumerate(view.features or ()):
        if feature.rank is not None:
            check_rank(scope, (*path, "features", index), feature, ranked, outputs)
    return outputs


def _ttl(scope: Scope, path: Path, view: FeatureView) -> None:
    """`ttl` is at least the widest window; a view with a `forever` window has none (design.md 1.10)."""
    if view.ttl is None:
        return
    at = (*path, "ttl")
    if view.ttl == 0:
        scope.report(at, "`ttl` should be longer than nothing", "write 30d")
    elif view.latest is None and view.ttl == FOREVER:
        scope.report(
            at,
            "`ttl: forever` is for views with `latest`",
            "remove it: the default is the view's widest window",
        )
    elif view.latest is None and (eternal := _forever(view)) is not None:
        scope.report(
            at,
            f"view '{view.name}' cannot have a `ttl`: '{eternal.name}' looks back forever",
            "remove the ttl, or move the features over forever to a view of their own",
            key=True,
        )
    elif view.latest is None and isinstance(view.ttl, int):
        widest, feature = max(
            (
                (parse_duration(text), each)
                for each in view.features or ()
                for text in windows_of(each)
                if text
            ),
            key=lambda found: found[0],
            default=(0, None),
        )
        if feature is not None and view.ttl < widest:
            scope.report(
                at,
                f"`ttl` is {format_duration(view.ttl)}, less than the {format_duration(widest)}"
                f" that '{feature.name}' looks back",
                f"write ttl: {format_duration(widest)} or more, or remove it",
            )


def _forever(view: FeatureView) -> Feature | None:
    return next((feature for feature in view.features or () if FOREVER in windows_of(feature)), None)

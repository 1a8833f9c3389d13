"""Checks of one feature: its window, operand, options and default (design.md 1.3, 1.9, 1.13, 1.14)."""

from collections.abc import Mapping

from featureflow_cli.spec.fields import FOREVER
from featureflow_cli.spec.fingerprints import windows_of
from featureflow_cli.spec.ladder import EXACT_US, LADDER_US, default_resolution
from featureflow_cli.spec.models import Feature, RatioPart, Source
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.results import (
    DECAYING,
    KEYED,
    RANKED,
    answer_type,
    as_yaml,
    described,
    misfit,
    operand_of,
    takes,
)
from featureflow_cli.spec.scope import Scope, columns_of, nearest
from featureflow_cli.spec.types import DOUBLE, ColumnType
from featureflow_cli.times import DAY_US, format_duration, parse_duration

WIDEST_US = 36_500 * DAY_US
"""A hundred years: wider is `forever`."""


def check_feature(scope: Scope, path: Path, feature: Feature, source: Source | None) -> ColumnType | None:
    """The type of its answer, or None where what it aggregates is wrong. Ranks: see `check_rank` too."""
    _windows(scope, path, feature)
    _resolution(scope, path, feature)
    _options(scope, path, feature)
    answer = DOUBLE if source is None and feature.aggregation == "rank" else None
    if source is not None:
        schema = columns_of(source)
        scope.condition((*path, "where"), feature.where, schema)
        answer = _operands(scope, path, feature, schema)
    if answer is not None and feature.default is not None and (why := misfit(feature.default, answer)):
        scope.report(
            (*path, "default"),
            f"the default of '{feature.name}' cannot be {as_yaml(feature.default)}: {why}",
        )
    return answer


def _windows(scope: Scope, path: Path, feature: Feature) -> None:
    name = feature.name
    if feature.rank is not None:
        for key in ("window", "windows"):
            if getattr(feature, key) is not None:
                scope.report(
                    (*path, key),
                    f"a rank takes the window of its `of`; '{name}' cannot have `{key}`",
                    "remove it",
                    key=True,
                )
        if "{window}" in name:
            scope.report(
                (*path, "name"),
                "a rank has no window of its own to put for {window}",
                "write the window of its `of` in the name",
            )
        return
    if feature.window is not None and feature.windows is not None:
        scope.report(
            (*path, "windows"), f"feature '{name}' has `window` and `windows`", "keep one of them", key=True
        )
    if feature.window is None and feature.windows is None:
        scope.report(
            (*path, "name"),
            f"feature '{name}' needs a `window`",
            "write window: 24h, windows: [1h, 24h], or window: forever",
        )
    if feature.windows is not None and not feature.windows:
        scope.report((*path, "windows"), "`windows` is empty", "write windows: [1h, 24h]")
    for index, text in enumerate(feature.windows or ()):
        if text in (feature.windows or ())[:index]:
            scope.report((*path, "windows", index), f"the window {text} is there twice", "remove one")
    if len(feature.windows or ()) > 1 and "{window}" not in name:
        scope.report(
            (*path, "name"),
            f"'{name}' has several windows, so its name needs {{window}}",
            f'write "{name}_{{window}}"',
        )
    places: list[Path] = (
        [(*path, "window")]
        if feature.windows is None
        else [(*path, "windows", i) for i in range(len(feature.windows))]
    )
    for at, text in zip(places, windows_of(feature), strict=False):
        if text in {"", FOREVER}:
            continue
        if parse_duration(text) == 0:
            scope.report(at, f"a window of {text} covers nothing", "write 1h, 24h or 7d")
        if parse_duration(text) > WIDEST_US:
            scope.report(at, f"a window of {text} is over a hundred years", "write forever")


def _resolution(scope: Scope, path: Path, feature: Feature) -> None:
    """A rung of the ladder no wider than each window, or `exact` (design.md 1.3)."""
    if feature.resolution is None:
        return
    at = (*path, "resolution")
    if feature.rank is not None:
        scope.report(at, "a rank takes the resolution of its `of`", "remove it", key=True)
        return
    widths = [parse_duration(text) for text in windows_of(feature) if text not in {"", FOREVER}]
    if not widths:
        if FOREVER in windows_of(feature):
            scope.report(at, "a forever window has no old edge to round", "remove the resolution", key=True)
        return
    if feature.resolution == "exact":
        return
    rung = parse_duration(feature.resolution) if feature.resolution != FOREVER else 0
    if rung not in LADDER_US:
        scope.report(at, f"{feature.resolution} is not a rung of the ladder", f"one of {_ladder()}, or exact")
    elif rung > min(widths):
        scope.report(
            at,
            f"a resolution of {feature.resolution} is wider than a window of {format_duration(min(widths))}",
            f"the default is {format_duration(default_resolution(min(widths)))}",
        )


def _options(scope: Scope, path: Path, feature: Feature) -> None:
    """Options that belong to some aggregations only."""
    name = feature.aggregation
    if feature.half_life is not None:
        at = (*path, "half_life")
        if name not in DECAYING:
            scope.report(at, f"`half_life` is for count and sum, not for {name}", "remove it", key=True)
        elif any(text not in {"", FOREVER} for text in windows_of(feature)):
            scope.report(
                at,
                "a decayed aggregation looks back forever",
                "write window: forever, or remove `half_life`",
                key=True,
            )
        if feature.half_life == 0:
            scope.report(at, "`half_life` should be longer than nothing", "write 1h or 7d")
    if feature.max_keys is not None and name not in KEYED:
        scope.report(
            (*path, "max_keys"),
            f"`max_keys` is for {', '.join(sorted(KEYED))}, not for {name}",
            "remove it",
            key=True,
        )
    if feature.refresh is not None and name != "rank":
        scope.report(
            (*path, "refresh"),
            f"`refresh` is for rank, not for {name}",
            "remove it; values are always read for their moment",
            key=True,
        )
    if feature.where is not None and name == "rank":
        scope.report(
            (*path, "where"),
            "a rank counts what its `of` counts; it has no `where`",
            "put the condition on its `of`",
            key=True,
        )


def _operands(
    scope: Scope, path: Path, feature: Feature, schema: Mapping[str, ColumnType]
) -> ColumnType | None:
    """The type of the answer, the operands being checked; None where they are wrong."""
    if feature.rank is not None:
        return DOUBLE
    if feature.ratio is not None:
        sides = [
            _side(scope, (*path, "ratio", key), part, schema)
            for key, part in (("of", feature.ratio.of), ("to", feature.ratio.to))
        ]
        return DOUBLE if all(sides) else None
    found = operand_of(feature)
    if found is None:
        return answer_type(feature, None)
    below, text = found
    operand, is_right = _operand(scope, (*path, *below), feature.aggregation, text, schema)
    return answer_type(feature, operand) if is_right else None


def _side(scope: Scope, path: Path, part: RatioPart, schema: Mapping[str, ColumnType]) -> bool:
    before = len(scope.problems)
    scope.condition((*path, "where"), part.where, schema)
    name = "count" if part.count is not None else "sum"
    _operand(scope, (*path, name), name, part.count or part.sum or "", schema)
    return len(scope.problems) == before


def _operand(
    scope: Scope, path: Path, aggregation: str, text: str, schema: Mapping[str, ColumnType]
) -> tuple[ColumnType | None, bool]:
    """(type of the operand, None for all events; whether it is right)."""
    if text.strip() == "*":
        if aggregation == "count":
            return None, True
        scope.report(
            path,
            f"`*` means all events, which only count takes; {aggregation} needs an expression",
            'name a column, or write count: "*"',
        )
        return None, False
    expr = scope.expression(path, text, schema)
    if expr is None:
        return None, False
    if wanted := takes(aggregation, expr.type):
        scope.report(path, f"{aggregation} needs {wanted}; this is {described(expr.type)}")
        return None, False
    return expr.type, True


def check_rank(
    scope: Scope,
    path: Path,
    feature: Feature,
    ranked: Mapping[str, tuple[Feature, str]],
    outputs: Mapping[str, ColumnType | None],
) -> None:
    """A rank's `of` and `refresh` (design.md 1.14); `ranked` are the view's features and windows by name."""
    assert feature.rank is not None
    if feature.refresh is None:
        scope.report((*path, "name"), f"rank '{feature.name}' needs `refresh`", "write refresh: 1m")
    at = (*path, "rank", "of")
    if feature.rank.of not in ranked:
        scope.report(
            at,
            f"this view has no feature '{feature.rank.of}' to rank",
            nearest(feature.rank.of, [name for name in ranked if name != feature.name]),
        )
        return
    of, window = ranked[feature.rank.of]
    if of.aggregation not in RANKED or of.half_life is not None:
        kind = "a decayed aggregation" if of.half_life is not None else f"of `{of.aggregation}`"
        scope.report(
            at,
            f"'{feature.rank.of}' is {kind}, which cannot be ranked",
            f"rank one of {', '.join(sorted(RANKED))}",
        )
        return
    answer = outputs.get(feature.rank.of)
    if answer is not None and not answer.is_number:
        scope.report(
            at, f"'{feature.rank.of}' is {described(answer)}, which cannot be ranked", "rank a number"
        )
        return
    if feature.rank.method == "percent_rank" and (
        of.aggregation in {"mean", "ratio"} or (of.aggregation == "sum" and answer == DOUBLE)
    ):
        kind = "sum of doubles" if of.aggregation == "sum" else of.aggregation
        scope.report(
            (*path, "rank", "method"),
            f"percent_rank cannot rank a {kind}: rounding would change places",
            "rank a count or an exact sum (int64, decimal), or use share_of_max",
        )
    if window == FOREVER:
        scope.report(
            at,
            f"'{feature.rank.of}' looks back forever, which cannot be ranked",
            "rank a feature with a window",
        )
    elif window and feature.refresh is not None:
        _refresh(scope, (*path, "refresh"), feature.refresh, of, window)


def _refresh(scope: Scope, path: Path, refresh_us: int, of: Feature, window: str) -> None:
    width_us = parse_duration(window)
    resolution_us = default_resolution(width_us)
    if of.resolution == "exact":
        resolution_us = EXACT_US
    elif of.resolution not in {None, FOREVER}:
        resolution_us = parse_duration(str(of.resolution))
    fitting = [
        rung
        for rung in LADDER_US
        if rung % max(resolution_us, 1) == 0 and rung <= width_us and width_us % rung == 0
    ]
    if refresh_us not in fitting:
        shown = format_duration(refresh_us)
        if refresh_us not in LADDER_US:
            why = f"{shown} is not a rung of the ladder"
        elif resolution_us and refresh_us % resolution_us:
            why = f"the resolution of '{of.name}' ({format_duration(resolution_us)}) does not divide {shown}"
        else:
            why = f"{shown} does not divide the window of {window}"
        scope.report(path, why, f"one of {', '.join(map(format_duration, fitting))}" if fitting else "")


def _ladder() -> str:
    return ", ".join(format_duration(rung) for rung in LADDER_US[1:])

"""From checked definitions to the compiled plan (`compute/views.py`). Pure: no file, no clock.

State columns are shared: two features that keep the same partial of the same events over different windows
share one column, whose tiles are as fine as the finest window that still sees them.
"""

from dataclasses import replace

from featureflow_cli.compute.aggregations import AGGREGATIONS, Aggregation
from featureflow_cli.compute.codes import is_text_coded
from featureflow_cli.compute.defaults import typed
from featureflow_cli.compute.selecting import compile_on_demand, select_service
from featureflow_cli.compute.views import (
    Feature,
    JoinKey,
    Key,
    Lift,
    Merge,
    OnDemand,
    Repo,
    Side,
    Source,
    StateColumn,
    View,
)
from featureflow_cli.compute.windows import EXACT_US, Window, default_resolution
from featureflow_cli.errors import NotFound
from featureflow_cli.spec import fields, models
from featureflow_cli.spec.expressions import Expr, parse
from featureflow_cli.spec.fingerprints import (
    DEFAULT_MAX_KEYS,
    expanded_name,
    source_meaning,
    ttl_us,
    view_fingerprint,
    windows_of,
)
from featureflow_cli.spec.types import DOUBLE, TIMESTAMP, ColumnType
from featureflow_cli.times import (
    DAY_US,
    HOUR_US,
    MILLISECOND_US,
    MINUTE_US,
    SECOND_US,
    parse_duration,
    parse_timestamp,
)

UNITS_US = {
    "us": 1,
    "ms": MILLISECOND_US,
    "seconds": SECOND_US,
    "minutes": MINUTE_US,
    "hours": HOUR_US,
    "days": DAY_US,
}
FOREVER = Window(None, EXACT_US, fields.FOREVER)


def compile_repo(config: models.StoreConfig, definitions: models.Definitions) -> Repo:
    """The compiled plan of definitions that `spec.checks` found without a problem."""
    entities = {entity.name: entity for entity in definitions.entities}
    sources = {source.name: compile_source(source, config) for source in definitions.sources}
    views = {
        view.name: compile_view(view, entities[view.entity], sources[view.source], definitions)
        for view in definitions.feature_views
    }
    on_demand: dict[str, OnDemand] = {}
    for feature in definitions.on_demand_features:
        on_demand[feature.name] = compile_on_demand(feature, views)
    repo = Repo(
        project=config.project,
        entities={
            name: tuple(JoinKey(key, key, key_type) for key, key_type in entity.join_keys.items())
            for name, entity in entities.items()
        },
        sources=sources,
        views=views,
        on_demand=on_demand,
    )
    services = {service.name: select_service(repo, service) for service in definitions.feature_services}
    return replace(repo, services=services)


def compile_source(source: models.Source, config: models.StoreConfig) -> Source:
    never_null = {source.timestamp_field, source.event_id} - {None}
    return Source(
        name=source.name,
        columns={name: column.type for name, column in source.columns.items()},
        paths={name: tuple((column.from_ or name).split(".")) for name, column in source.columns.items()},
        formats={
            name: column.format or source.timestamp_format
            for name, column in source.columns.items()
            if column.type == TIMESTAMP
        },
        not_null=frozenset(
            name for name, column in source.columns.items() if column.not_null or name in never_null
        ),
        timestamp_field=source.timestamp_field,
        created_timestamp=source.created_timestamp,
        event_id=source.event_id,
        dedupe_within_us=source.dedupe_within or 0,
        allowed_future_us=config.stream.allowed_future,
        files=source.stream.files.path if source.stream and source.stream.files else None,
        batch=source.batch.path if source.batch else None,
        until_us=parse_timestamp(source.batch.until) if source.batch and source.batch.until else None,
        streamed=source.stream is not None,
        meaning=source_meaning(source, config),
        kafka=source.stream.kafka if source.stream else None,
    )


def compile_view(
    view: models.FeatureView, entity: models.Entity, source: Source, definitions: models.Definitions
) -> View:
    columns = _Columns(source)
    written = [_over(feature, text) for feature in view.features or () for text in windows_of(feature)]
    # State columns are laid out in order of name: all spellings of one fingerprint share their states.
    compiled = {
        feature.name: _compile_feature(feature, columns, view, source)
        for feature in sorted(written, key=lambda feature: feature.name)
    }
    features = [compiled[feature.name] for feature in written]
    if view.latest is not None:
        columns.add(StateColumn(Merge.NEWEST, Lift.CODE, key=Key.TIME, k=1, is_text=True, is_tiled=False))
    return View(
        name=view.name,
        entity=entity.name,
        join_keys=tuple(
            JoinKey(key, view.join_keys.get(key, key), key_type) for key, key_type in entity.join_keys.items()
        ),
        source=source,
        where=parse(view.where, source.columns) if view.where else None,
        ttl_us=ttl_us(view),
        masks=tuple(columns.masks),
        operands=tuple(columns.operands),
        columns=tuple(columns.columns),
        features=tuple(features),
        latest=tuple((name, source.columns[name]) for name in view.latest or ()),
        deleted=parse(view.deleted, source.columns) if view.deleted else None,
        fingerprint=view_fingerprint(view, entity, source.meaning),
    )


class _Columns:
    """A view's masks, operands and state columns while it is compiled; equal ones are kept once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.masks: list[Expr] = []
        self.operands: list[Expr] = []
        self.columns = [StateColumn(Merge.MAX, Lift.TIME, is_tiled=False)]

    def mask(self, *texts: str | None) -> int | None:
        """Index of the conjunction of those of `texts` that are there; None where none is."""
        conditions = [f"({text})" for text in texts if text]
        return self._index(self.masks, " and ".join(conditions)) if conditions else None

    def operand(self, text: str | None) -> int | None:
        return None if text is None or text.strip() == "*" else self._index(self.operands, text)

    def add(self, column: StateColumn) -> int:
        """Index of the column, its horizons joined with those of an equal one that stands already."""
        for index, standing in enumerate(self.columns[1:], start=1):
            if replace(standing, horizons=column.horizons) == column:
                horizons = tuple(sorted({*standing.horizons, *column.horizons}, key=_finest_first))
                self.columns[index] = replace(standing, horizons=horizons)
                return index
        self.columns.append(column)
        return len(self.columns) - 1

    def _index(self, expressions: list[Expr], text: str) -> int:
        expression = parse(text, self.source.columns)
        for index, standing in enumerate(expressions):
            if standing == expression:
                return index
        expressions.append(expression)
        return len(expressions) - 1


def _finest_first(horizon: tuple[int | None, int]) -> tuple[bool, int, int]:
    width_us, resolution_us = horizon
    return (width_us is None, resolution_us, width_us or 0)


def _over(written: models.Feature, window: str) -> models.Feature:
    """`written` over one of its windows (empty for a rank), under the name that it has there."""
    name = expanded_name(written, window)
    return written.model_copy(update={"name": name, "window": window or None, "windows": None})


def _compile_feature(
    written: models.Feature, columns: _Columns, view: models.FeatureView, source: Source
) -> Feature:
    """The compiled feature of one that has one window, or is a rank."""
    if written.aggregation == "rank":
        return _compile_rank(written, columns, view, source)
    assert written.window is not None
    window = compile_window(written.window, written.resolution)
    horizon = (window.width_us, window.resolution_us)
    sides = tuple(_compile_side(side, written, columns, horizon) for side in _sides(written))
    return _feature(written, window, sides, columns)


def compile_window(text: str, resolution: str | None) -> Window:
    if text == fields.FOREVER:
        return FOREVER
    width_us = parse_duration(text)
    if resolution is None:
        return Window(width_us, default_resolution(width_us), text)
    return Window(width_us, EXACT_US if resolution == "exact" else parse_duration(resolution), text)


def _sides(written: models.Feature) -> list[tuple[str, str | None, str | None]]:
    """(aggregation, operand, where of its own) of each side: two for a ratio, one for all else."""
    name = written.aggregation
    if written.ratio is not None:
        parts = (written.ratio.of, written.ratio.to)
        return [_side("count" if part.count else "sum", part.count or part.sum, part.where) for part in parts]
    value = getattr(written, name)
    operand = value if isinstance(value, str) else getattr(value, "of", getattr(value, "by", None))
    aggregation, text, where = _side(name, operand, None)
    return [(f"decayed_{aggregation}" if written.half_life else aggregation, text, where)]


def _side(name: str, operand: str | None, where: str | None) -> tuple[str, str | None, str | None]:
    """A count keeps nothing of its operand: it counts where that is not null, so it has a `where` instead.

    So texts too long to keep count, too.
    """
    if name == "count" and operand is not None and operand.strip() != "*":
        not_null = f"({operand}) is not null"
        return name, None, f"({where}) and {not_null}" if where else not_null
    return name, operand, where


def _compile_side(
    side: tuple[str, str | None, str | None],
    written: models.Feature,
    columns: _Columns,
    horizon: tuple[int | None, int],
) -> Side:
    name, text, where = side
    mask, operand = columns.mask(written.where, where), columns.operand(text)
    operand_type = None if operand is None else columns.operands[operand].type
    indexes = [
        columns.add(column)
        for column in _state_columns(AGGREGATIONS[name], written, mask, operand, operand_type, horizon)
    ]
    return Side(name, mask, operand, tuple(indexes))


def _state_columns(
    aggregation: Aggregation,
    written: models.Feature,
    mask: int | None,
    operand: int | None,
    operand_type: ColumnType | None,
    horizon: tuple[int | None, int],
) -> list[StateColumn]:
    keyed_of = written.first_k or written.last_k
    columns = []
    for partial in aggregation.partials(operand_type):
        is_keyed = partial.key in {Key.HASH, Key.CODE, Key.BUCKET}
        held = Key.CODE if is_keyed else Lift.CODE
        columns.append(
            StateColumn(
                merge=partial.merge,
                lift=partial.lift,
                mask=mask,
                operand=operand,
                key=partial.key,
                k=(keyed_of.k if keyed_of else 1) if partial.merge in {Merge.NEWEST, Merge.OLDEST} else 0,
                max_keys=written.max_keys or DEFAULT_MAX_KEYS if partial.key in {Key.HASH, Key.CODE} else 0,
                half_life_us=written.half_life or 0 if partial.merge is Merge.DECAY else 0,
                horizons=(horizon,),
                is_text=(
                    operand_type is not None
                    and is_text_coded(operand_type)
                    and (partial.key if is_keyed else partial.lift) is held
                ),
                is_tiled=partial.is_tiled,
            )
        )
    return columns


def _feature(written: models.Feature, window: Window, sides: tuple[Side, ...], columns: _Columns) -> Feature:
    aggregation = AGGREGATIONS[sides[0].aggregation]
    operand = None if sides[0].operand is None else columns.operands[sides[0].operand].type
    is_ratio = written.ratio is not None
    answer_type = DOUBLE if is_ratio else aggregation.result(operand)
    keyed_of = written.first_k or written.last_k or written.top_k
    timed = written.session_mean or written.time_since_last or written.time_since_first
    return Feature(
        name=written.name.replace("{window}", window.text),
        aggregation="ratio" if is_ratio else aggregation.name,
        type=answer_type,
        window=window,
        sides=sides,
        default=typed(written.default, answer_type),
        k=keyed_of.k if keyed_of else 0,
        p=written.percentile.p if written.percentile else 0.0,
        unit_us=UNITS_US[timed.unit] if timed else 1,
        max_keys=written.max_keys or DEFAULT_MAX_KEYS,
        half_life_us=written.half_life or 0,
    )


def _compile_rank(
    written: models.Feature, columns: _Columns, view: models.FeatureView, source: Source
) -> Feature:
    """A rank keeps the tiles of its `of` fine for window + refresh + allowed_future (design.md 1.14)."""
    assert written.rank is not None
    assert written.refresh is not None
    ranked, text = _ranked(view, written.rank.of)
    window = compile_window(text, ranked.resolution)
    assert window.width_us is not None
    horizon = (window.width_us + written.refresh + source.allowed_future_us, window.resolution_us)
    sides = tuple(_compile_side(side, ranked, columns, horizon) for side in _sides(ranked))
    return Feature(
        name=written.name,
        aggregation="rank",
        type=DOUBLE,
        window=window,
        sides=sides,
        default=typed(written.default, DOUBLE),
        of=written.rank.of,
        method=written.rank.method,
        refresh_us=written.refresh,
    )


def _ranked(view: models.FeatureView, name: str) -> tuple[models.Feature, str]:
    """The feature of that name in the view, and the window it stands for."""
    for feature in view.features or ():
        for text in feature.windows or ((feature.window,) if feature.window else ()):
            if feature.name.replace("{window}", text) == name:
                return feature, text
    message = f"no feature '{name}' in view '{view.name}'"
    raise NotFound(message)

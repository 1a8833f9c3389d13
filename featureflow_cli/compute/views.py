"""The compiled plan of a repo: what every engine, store and verb runs on. Plain frozen data.

`compile_repo` (compute/compiling.py) makes it from checked definitions; nothing downstream reads YAML models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from featureflow_cli.compute.windows import Window, presence_windows
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.spec.types import ColumnType, Value


class Merge(Enum):
    """How two cells of one state column become one. All are associative and commutative."""

    SUM = "sum"  # int64, exact
    FSUM = "fsum"  # double, by slice
    MIN = "min"  # of order-preserving int64 codes
    MAX = "max"
    MOMENTS = "moments"  # three columns side by side: n, mean, M2
    DECAY = "decay"  # cell key = reference time, value = sum scaled to it
    NEWEST = "newest"  # k greatest by (timestamp, value code); cell key = timestamp
    OLDEST = "oldest"  # k smallest


SIDE_BY_SIDE = frozenset({Merge.SUM, Merge.FSUM, Merge.MIN, Merge.MAX})
"""What merges cell by cell: columns that take the same events into the same tiles and keys have the same cells."""


class Lift(Enum):
    """What one event contributes to one state column."""

    ONE = "one"
    LIMB_0 = "limb_0"  # 32-bit limbs of an exact number; the last one carries the sign
    LIMB_1 = "limb_1"
    LIMB_2 = "limb_2"
    LIMB_3 = "limb_3"
    DOUBLE = "double"  # the operand as a double
    ZERO = "zero"  # M2 of a single event
    CODE = "code"  # the operand's order-preserving int64 code
    TIME = "time"  # the event's own timestamp


class Key(Enum):
    """What the cells of a keyed column are keyed by."""

    NONE = "none"
    HASH = "hash"  # XXH64 of the key's canonical text: the key itself is never answered
    CODE = "code"  # order-preserving code: the key can be answered
    BUCKET = "bucket"  # percentile bucket
    TIME = "time"  # of NEWEST and OLDEST; the reference time of DECAY


@dataclass(frozen=True)
class StateColumn:
    """One column of a view's state: which events it takes, what they add, how cells merge and coarsen.

    `mask` and `operand` are indexes into the view's `masks` and `operands`; an event whose operand is null
    adds nothing; keyed columns are keyed by their operand. `horizons` says how fine tiles must be: pairs
    (width_us, resolution_us), finest resolution first, one for each window that reads the column; width None
    is `forever`. A column that is not tiled has one tile, `BEGINNING_US`; its horizons say what may be dropped.
    """

    merge: Merge
    lift: Lift
    mask: int | None = None
    operand: int | None = None
    key: Key = Key.NONE
    k: int = 0
    max_keys: int = 0
    half_life_us: int = 0
    horizons: tuple[tuple[int | None, int], ...] = ()
    is_text: bool = False  # the code (of the key, for Key.CODE, else of the value) is an index into the texts
    is_tiled: bool = True


@dataclass(frozen=True)
class JoinKey:
    """`name` is the entity's; `column` is the source's column that holds it."""

    name: str
    column: str
    type: ColumnType


@dataclass(frozen=True)
class Side:
    """One side of a ratio, or the whole of another aggregation: mask and operand as in StateColumn."""

    aggregation: str
    mask: int | None
    operand: int | None
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Feature:
    """One value of a view: `sides` (two for a ratio, none for a rank) over `window`.

    `type` is the type of the answer. `of` names the ranked feature; `unit_us` divides durations.
    """

    name: str
    aggregation: str
    type: ColumnType
    window: Window
    sides: tuple[Side, ...]
    default: Value = None
    k: int = 0
    p: float = 0.0
    unit_us: int = 1
    max_keys: int = 4096
    half_life_us: int = 0
    of: str = ""
    method: str = ""
    refresh_us: int = 0


@dataclass(frozen=True)
class Source:
    """A source as engines see it. `columns` maps names to types in declared order.

    `paths`, `formats` and `not_null` guide decoding. `meaning` is the fingerprint of what decides an event's
    fate (schema, event_id, dedupe_within, allowed_future): design.md 4 [meaning].
    """

    name: str
    columns: Mapping[str, ColumnType]
    paths: Mapping[str, tuple[str, ...]]
    formats: Mapping[str, str]
    not_null: frozenset[str]
    timestamp_field: str
    created_timestamp: str | None
    event_id: str | None
    dedupe_within_us: int
    allowed_future_us: int
    files: str | None
    batch: str | None
    until_us: int | None
    streamed: bool
    meaning: str
    kafka: KafkaStream | None = None

    def __hash__(self) -> int:
        return hash((self.name, self.meaning))


@dataclass(frozen=True)
class View:
    """One feature view. Either `features` (windowed) or `latest` (columns of the newest whole row).

    State columns: 0 is always presence (MAX of the timestamp, no mask). A latest view has one more, NEWEST of
    the row's canonical text. `ttl_us` None: never expires. `fingerprint` changes when the meaning does.
    """

    name: str
    entity: str
    join_keys: tuple[JoinKey, ...]
    source: Source
    where: Expr | None
    ttl_us: int | None
    masks: tuple[Expr, ...]
    operands: tuple[Expr, ...]
    columns: tuple[StateColumn, ...]
    features: tuple[Feature, ...]
    latest: tuple[tuple[str, ColumnType], ...] = ()
    deleted: Expr | None = None
    fingerprint: str = ""

    @cached_property
    def families(self) -> tuple[tuple[int, ...], ...]:
        """Its columns by the cells that they have, in order of the first of each; a moment's three are one family."""
        found: dict[object, list[int]] = {}
        for index, column in enumerate(self.columns):
            kind: object = index
            if column.merge is Merge.MOMENTS:
                kind = (Merge.MOMENTS, column.mask, column.operand, column.horizons)
            elif column.is_tiled and column.merge in SIDE_BY_SIDE:
                kind = (column.mask, column.operand, column.key, column.horizons, column.max_keys)
            found.setdefault(kind, []).append(index)
        return tuple(map(tuple, found.values()))

    @property
    def outputs(self) -> tuple[tuple[str, ColumnType], ...]:
        """Names and types of what the view answers, in declared order."""
        return self.latest or tuple((feature.name, feature.type) for feature in self.features)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The distinct windows of its features."""
        return tuple(dict.fromkeys(feature.window for feature in self.features))

    @cached_property
    def presence(self) -> tuple[Window, ...]:
        """The windows an event within any of which makes its entity present; none: any event does."""
        return presence_windows(self.ttl_us, self.windows)


@dataclass(frozen=True)
class OnDemand:
    """An expression over features (columns named `view.feature`), `request` columns and `as_of`."""

    name: str
    expr: Expr
    type: ColumnType
    request: Mapping[str, ColumnType]
    views: tuple[str, ...]
    default: Value = None

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class ServiceView:
    """A view in a service under `alias`; `join_keys` maps the entity's key to the request's column."""

    view: View
    alias: str
    join_keys: Mapping[str, str]
    features: tuple[str, ...]

    def __hash__(self) -> int:
        return hash((self.alias, self.view.fingerprint, self.features))


@dataclass(frozen=True)
class Service:
    """A feature service, or an ad-hoc list of features (`name` is then empty)."""

    name: str
    views: tuple[ServiceView, ...]
    on_demand: tuple[OnDemand, ...]
    required_entities: tuple[str, ...]

    @property
    def outputs(self) -> tuple[tuple[str, ColumnType], ...]:
        """Output columns `alias__feature` and on-demand names, with types."""
        columns = [
            (f"{member.alias}__{name}", column_type)
            for member in self.views
            for name, column_type in member.view.outputs
            if name in member.features
        ]
        return tuple(columns + [(feature.name, feature.type) for feature in self.on_demand])

    def is_read(self, member: ServiceView) -> bool:
        """Whether on-demand features mean this member by its view's name: the one of that name, or the only one."""
        return member.alias == member.view.name or not any(
            other.view.name == member.view.name for other in self.views if other.alias != member.alias
        )

    def needed(self, member: ServiceView) -> frozenset[str]:
        """Features of a member view that are answered, or read by an on-demand feature."""
        prefix = f"{member.view.name}."
        columns = (column for feature in self.on_demand for column in feature.expr.columns)
        return frozenset(member.features) | {
            column.removeprefix(prefix) for column in columns if column.startswith(prefix)
        }


@dataclass(frozen=True)
class Repo:
    """All of it, by name."""

    project: str
    entities: Mapping[str, tuple[JoinKey, ...]] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    on_demand: Mapping[str, OnDemand] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)

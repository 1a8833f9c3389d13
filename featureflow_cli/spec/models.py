"""What the user wrote, as frozen models: one class for each thing that the YAML names (spec.md).

These check the shape of one object by itself; `spec/checks.py` checks what needs more than one. The models
dump to JSON and load back unchanged: that is what the registry keeps.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from featureflow_cli.spec.fields import (
    Duration,
    FeatureName,
    Name,
    Resolution,
    Timestamp,
    TimestampFormat,
    Ttl,
    Type,
    Unit,
    Window,
)


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Described(Model):
    """Cosmetic fields: they never change a value, and changing them never rebuilds anything."""

    description: str = ""
    owner: str = ""
    tags: dict[str, str] = {}


class Entity(Described):
    name: Name
    join_keys: dict[Name, Type] = Field(min_length=1)


class SourceColumn(Model):
    """One column of a source; `from` is the dotted path in nested JSON (default: the column's own name)."""

    type: Type
    from_: str | None = Field(default=None, alias="from")
    format: TimestampFormat | None = None
    not_null: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, written: Any) -> Any:
        """`int64 not null` is short for `{type: int64, not_null: true}`, alone or inside `type`."""
        if isinstance(written, str):
            written = {"type": written}
        if isinstance(written, dict) and isinstance(written.get("type"), str):
            bare = written["type"].strip().removesuffix("not null")
            if bare != written["type"].strip():
                return {**written, "type": bare.strip(), "not_null": True}
        return written


class FilesStream(Model):
    path: str


class KafkaTopic(Model):
    partitions: int = Field(default=1, ge=1)
    retention: Duration | None = None


class SchemaRegistryConfig(Model):
    """Where the schemas of Avro and Protobuf messages are; like all of a connection it keeps its `${env:…}`."""

    url: str
    username: str | None = None
    password: str | None = None


class KafkaStream(Model):
    """A topic. `bootstrap_servers`, `schema_registry` and the values of `config` (properties of librdkafka) keep
    their `${env:…}` until somebody connects (spec/variables.py).
    """

    topic: str
    bootstrap_servers: str = "localhost:9092"
    format: Literal["json", "avro", "protobuf"] = "json"
    create: KafkaTopic | None = None
    dead_letter_topic: str | None = None
    config: dict[str, str | int | float | bool] = {}
    schema_registry: SchemaRegistryConfig | None = None


class Stream(Model):
    """Where new events come from; at least one of them."""

    files: FilesStream | None = None
    kafka: KafkaStream | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.files is None and self.kafka is None:
            message = "a stream needs `files` or `kafka`"
            raise ValueError(message)
        return self


class Batch(Model):
    path: str
    until: Timestamp | None = None


class Source(Described):
    name: Name
    columns: dict[Name, SourceColumn] = Field(alias="schema", min_length=1)
    timestamp_field: Name
    timestamp_format: TimestampFormat = "iso8601"
    created_timestamp: Name | None = None
    event_id: Name | None = None
    dedupe_within: Duration | None = None
    stream: Stream | None = None
    batch: Batch | None = None


class KeyedOf(Model):
    of: str
    k: int = Field(default=1, ge=1, le=1000)


class PercentileOf(Model):
    of: str
    p: float = Field(gt=0, le=1)


class SessionBy(Model):
    by: str
    unit: Unit = "seconds"


class SinceUnit(Model):
    unit: Unit = "seconds"


class RatioPart(Model):
    """One side of a ratio: a count or a sum, with a `where` of its own."""

    count: str | None = None
    sum: str | None = None
    where: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.count is None) == (self.sum is None):
            message = "a side of a ratio is one `count` or one `sum`"
            raise ValueError(message)
        return self


class RatioOf(Model):
    of: RatioPart
    to: RatioPart


class RankOf(Model):
    of: Name
    method: Literal["share_of_max", "percent_rank"] = "share_of_max"


AGGREGATIONS = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "variance",
    "stddev",
    "first",
    "last",
    "first_k",
    "last_k",
    "count_distinct",
    "top_k",
    "percentile",
    "time_since_last",
    "time_since_first",
    "ratio",
    "session_mean",
    "rank",
)


class Feature(Described):
    """One line of a view: one aggregation over one window or several (`{window}` in the name).

    `count: "*"` counts events; `count: expr` the events where expr is not null. With `half_life`, `count`
    and `sum` decay exponentially, over `forever`.
    """

    name: FeatureName
    count: str | None = None
    sum: str | None = None
    mean: str | None = None
    min: str | None = None
    max: str | None = None
    variance: str | None = None
    stddev: str | None = None
    first: str | None = None
    last: str | None = None
    first_k: KeyedOf | None = None
    last_k: KeyedOf | None = None
    count_distinct: str | None = None
    top_k: KeyedOf | None = None
    percentile: PercentileOf | None = None
    time_since_last: SinceUnit | None = None
    time_since_first: SinceUnit | None = None
    ratio: RatioOf | None = None
    session_mean: SessionBy | None = None
    rank: RankOf | None = None
    where: str | None = None
    window: Window | None = None
    windows: tuple[Window, ...] | None = None
    default: bool | int | float | str | None = None
    resolution: Resolution | None = None
    refresh: Duration | None = None
    half_life: Duration | None = None
    max_keys: int | None = Field(default=None, ge=2, le=1_000_000)

    @property
    def aggregation(self) -> str:
        """The name of the one aggregation that is set (checked below)."""
        return next(name for name in AGGREGATIONS if getattr(self, name) is not None)

    @model_validator(mode="before")
    @classmethod
    def _bare_since(cls, written: Any) -> Any:
        """`time_since_last:` with nothing behind it means seconds."""
        if isinstance(written, dict) and all(written.get(name) is None for name in AGGREGATIONS):
            bare: dict[str, Any] = {
                key: {} for key in ("time_since_last", "time_since_first") if written.get(key, 0) is None
            }
            return {**written, **bare}
        return written

    @model_validator(mode="after")
    def _one_aggregation(self) -> Self:
        named = [name for name in AGGREGATIONS if getattr(self, name) is not None]
        if len(named) != 1:
            found = f"has {', '.join(named)}" if named else "has none"
            message = f"a feature is one aggregation ({', '.join(AGGREGATIONS)}); this one {found}"
            raise ValueError(message)
        return self


class FeatureView(Described):
    name: Name
    entity: Name
    source: Name
    where: str | None = None
    ttl: Ttl | None = None
    features: tuple[Feature, ...] | None = None
    latest: tuple[Name, ...] | None = None
    deleted: str | None = None
    join_keys: dict[Name, Name] = {}

    @model_validator(mode="after")
    def _features_or_latest(self) -> Self:
        if (self.features is None) == (self.latest is None):
            message = "a view has `features` or `latest`, one of them"
            raise ValueError(message)
        if self.deleted is not None and self.latest is None:
            message = "`deleted` belongs to a view with `latest`"
            raise ValueError(message)
        return self


class OnDemandFeature(Described):
    name: Name
    expr: str
    request: dict[Name, Type] = {}
    default: bool | int | float | str | None = None


class ViewReference(Model):
    """A view under another name, with its join keys taken from other columns of the request."""

    view: Name
    as_: Name | None = Field(default=None, alias="as")
    features: tuple[str, ...] = ("*",)
    join_keys: dict[Name, Name] = {}


class ServiceLog(Model):
    sample: float = Field(ge=0, le=1)


class FeatureService(Described):
    name: Name
    features: tuple[str | ViewReference, ...] = Field(min_length=1)
    required_entities: tuple[Name, ...] | None = None
    log: ServiceLog | None = None


class UnitTest(Model):
    name: str
    view: Name | None = None
    service: Name | None = None
    given: list[dict[str, Any]] | dict[Name, list[dict[str, Any]]]
    request: dict[str, Any] = {}
    at: dict[str, Any]
    expect: dict[str, Any]
    description: str = ""

    @model_validator(mode="after")
    def _view_or_service(self) -> Self:
        if (self.view is None) == (self.service is None):
            message = "a unit test is of one `view` or one `service`"
            raise ValueError(message)
        return self


class RedisTls(Model):
    """Files in PEM; without `ca_certs` the machine's authorities count."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


class OnlineStoreConfig(Model):
    type: Literal["sqlite", "redis"] = "sqlite"
    path: str = "data/online.db"
    url: str = Field(default="redis://localhost:6379/0", repr=False)
    cluster: bool = False
    tls: RedisTls = RedisTls()
    timeout: Duration = 5_000_000


class BucketOptions(Model):
    """How object storage is reached; what is left out is as the environment says (`AWS_…`)."""

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s]+/?$")
    region: str | None = None
    path_style: bool | None = None
    access_key_id: str | None = Field(default=None, repr=False)
    secret_access_key: str | None = Field(default=None, repr=False)
    session_token: str | None = Field(default=None, repr=False)


class OfflineStoreConfig(Model):
    type: Literal["delta"] = "delta"
    path: str = "data/offline"
    options: BucketOptions = BucketOptions()
    cache: str = "data/cache"


class EngineConfig(Model):
    type: Literal["duckdb", "spark"] = "duckdb"
    memory_limit: str = "2GB"
    master: str | None = None
    remote: str | None = None
    conf: dict[str, str | int | float | bool] = {}


class StreamConfig(Model):
    from_: Literal["files", "kafka"] = Field(default="files", alias="from")
    commit_interval: Duration = 5_000_000
    allowed_future: Duration = 60_000_000


class ServerConfig(Model):
    host: str = "127.0.0.1"
    port: int = Field(default=6566, ge=0, le=65535)


class StoreConfig(Model):
    """feature_store.yaml with the target's overlay merged in."""

    version: Literal[1] = 1
    project: Name
    registry: str = "data/registry.db"
    online_store: OnlineStoreConfig = OnlineStoreConfig()
    offline_store: OfflineStoreConfig = OfflineStoreConfig()
    engine: EngineConfig = EngineConfig()
    stream: StreamConfig = StreamConfig()
    server: ServerConfig = ServerConfig()


class Definitions(Model):
    """Everything under `features/`, in the order of (file name, line)."""

    entities: tuple[Entity, ...] = ()
    sources: tuple[Source, ...] = ()
    feature_views: tuple[FeatureView, ...] = ()
    on_demand_features: tuple[OnDemandFeature, ...] = ()
    feature_services: tuple[FeatureService, ...] = ()
    unit_tests: tuple[UnitTest, ...] = ()

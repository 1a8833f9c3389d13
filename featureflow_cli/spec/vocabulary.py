"""Words: what the parts of a definition are called, and how others call them."""

from collections.abc import Mapping

from pydantic import BaseModel

from featureflow_cli.spec import models

NOUNS: Mapping[type[BaseModel], str] = {
    models.Entity: "an entity",
    models.Source: "a source",
    models.SourceColumn: "a column",
    models.Stream: "a stream",
    models.FilesStream: "`files`",
    models.KafkaStream: "`kafka`",
    models.KafkaTopic: "`create`",
    models.SchemaRegistryConfig: "`schema_registry`",
    models.Batch: "`batch`",
    models.FeatureView: "a feature view",
    models.Feature: "a feature",
    models.RatioOf: "`ratio`",
    models.RatioPart: "a side of a ratio",
    models.RankOf: "`rank`",
    models.KeyedOf: "this aggregation",
    models.PercentileOf: "`percentile`",
    models.SessionBy: "`session_mean`",
    models.SinceUnit: "this aggregation",
    models.ServiceLog: "`log`",
    models.OnDemandFeature: "an on-demand feature",
    models.FeatureService: "a feature service",
    models.ViewReference: "a view reference",
    models.UnitTest: "a unit test",
    models.StoreConfig: "feature_store.yaml",
    models.OnlineStoreConfig: "`online_store`",
    models.RedisTls: "`tls`",
    models.OfflineStoreConfig: "`offline_store`",
    models.BucketOptions: "the offline store's `options`",
    models.EngineConfig: "`engine`",
    models.StreamConfig: "`stream`",
    models.ServerConfig: "`server`",
}
SAID_HERE: Mapping[tuple[type[BaseModel], str], str] = {
    # What users of Feast, dbt and the like write first, and how it is said here.
    (models.Entity, "join_key"): "write join_keys: {NAME: TYPE}",
    (models.Entity, "value_type"): "write join_keys: {NAME: TYPE}",
    (models.Source, "event_timestamp_column"): "it is called `timestamp_field`",
    (models.Source, "timestamp_column"): "it is called `timestamp_field`",
    (models.Source, "event_timestamp"): "it is called `timestamp_field`",
    (models.Source, "created_timestamp_column"): "it is called `created_timestamp`",
    (models.Source, "columns"): "it is called `schema`",
    (models.Source, "fields"): "it is called `schema`",
    (models.Source, "path"): "write batch: {path: …} or stream: {files: {path: …}}",
    (models.Source, "kafka"): "it belongs in `stream`: stream: {kafka: …}",
    (models.Source, "files"): "it belongs in `stream`: stream: {files: …}",
    (models.Source, "until"): "it belongs in `batch`: batch: {path: …, until: …}",
    (
        models.FeatureView,
        "entities",
    ): "a view has one entity: `entity: NAME` (several join keys make a pair entity)",
    (models.FeatureView, "batch_source"): "it is called `source`",
    (models.FeatureView, "stream_source"): "it is called `source`",
    (
        models.FeatureView,
        "schema",
    ): "the columns are the source's: name them in `latest`, or define `features`",
    (models.FeatureView, "aggregations"): "write them in `features`",
    (models.FeatureView, "window"): "a window belongs to a feature",
    (models.FeatureView, "windows"): "windows belong to a feature",
    (models.Feature, "aggregation"): 'name the aggregation itself, such as `count: "*"` or `sum: amount`',
    (models.Feature, "agg"): 'name the aggregation itself, such as `count: "*"` or `sum: amount`',
    (models.Feature, "function"): 'name the aggregation itself, such as `count: "*"` or `sum: amount`',
    (models.Feature, "type"): 'name the aggregation itself, such as `count: "*"` or `sum: amount`',
    (models.Feature, "avg"): "it is called `mean`",
    (models.Feature, "average"): "it is called `mean`",
    (models.Feature, "filter"): "it is called `where`",
    (models.Feature, "std"): "it is called `stddev`",
    (models.Feature, "median"): "write percentile: {of: …, p: 0.5}",
    (models.Feature, "expr"): "an expression over features belongs in `on_demand_features`",
    (models.Feature, "ttl"): "`ttl` belongs to the view",
    (models.FeatureService, "feature_views"): 'it is called `features`: ["view:*"]',
    (models.OnDemandFeature, "expression"): "it is called `expr`",
    (models.OnDemandFeature, "sql"): "it is called `expr`",
    (models.OnlineStoreConfig, "connection_string"): "it is called `url`",
    (models.OnlineStoreConfig, "host"): "write url: redis://HOST:PORT/DB",
    (models.OnlineStoreConfig, "port"): "write url: redis://HOST:PORT/DB",
    (
        models.OnlineStoreConfig,
        "password",
    ): 'write it in `url`: "redis://:${env:REDIS_PASSWORD}@HOST:PORT/DB"',
    (models.OnlineStoreConfig, "redis_type"): "write cluster: true",
}


TYPES: Mapping[str, str] = {
    **dict.fromkeys(("int", "integer", "bigint", "long", "int32", "smallint", "uint64", "number"), "int64"),
    **dict.fromkeys(("float", "float64", "float32", "real", "numeric"), "double"),
    **dict.fromkeys(("str", "text", "varchar", "char", "utf8", "uuid"), "string"),
    **dict.fromkeys(("datetime", "timestamptz", "unixtimestamp", "unix_timestamp"), "timestamp"),
    **dict.fromkeys(("boolean",), "bool"),
    **dict.fromkeys(("decimal", "money"), "decimal(18,2)"),
    **dict.fromkeys(("array", "list"), "list<double>"),
}

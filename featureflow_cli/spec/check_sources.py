"""Checks of the store's settings, of entities and of sources."""

from dataclasses import replace

from featureflow_cli.spec import redis_url
from featureflow_cli.spec.check_kafka import check_kafka
from featureflow_cli.spec.check_offline import check_offline
from featureflow_cli.spec.models import Entity, OnlineStoreConfig, Source
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.results import described
from featureflow_cli.spec.scope import Scope
from featureflow_cli.spec.types import ColumnType

RESERVED_COLUMNS = ("_partition", "_offset", "_ingested_at", "_day")
"""What the offline log adds to a source's columns."""
RESERVED_KEYS = ("timestamp", "as_of")
"""What labels and requests hold beside the join keys."""
NO_KEY = frozenset({"double", "list"})


def check_config(scope: Scope) -> None:
    config = scope.config
    here: Path = ("feature_store",)
    online, engine = config.online_store, config.engine
    foreign = {"sqlite": ("url", "cluster", "tls", "timeout"), "redis": ("path",)}[online.type]
    for key in foreign:
        if key in online.model_fields_set:
            other = "redis" if online.type == "sqlite" else "sqlite"
            scope.report(
                (*here, "online_store", key),
                f"`{key}` means nothing to an online store of type {online.type}",
                f"remove it, or write type: {other}",
                key=True,
            )
    if online.type == "redis":
        _redis(scope, (*here, "online_store"), online)
    check_offline(scope, (*here, "offline_store"), config.offline_store)
    for key in ("master", "remote", "conf"):
        if engine.type == "duckdb" and key in engine.model_fields_set:
            scope.report(
                (*here, "engine", key),
                f"`{key}` means nothing to the duckdb engine",
                "remove it, or write type: spark",
                key=True,
            )
    if config.stream.commit_interval <= 0:
        scope.report(
            (*here, "stream", "commit_interval"),
            "`commit_interval` should be longer than nothing",
            "write 5s",
        )


def _redis(scope: Scope, here: Path, online: OnlineStoreConfig) -> None:
    at = (*here, "url")
    if redis_url.names_password(scope.positions.written(at)):
        what = "a password stands in `url` for everybody to read"
        hint = 'write url: "redis://:${env:REDIS_PASSWORD}@HOST:PORT/DB"'
        problem = scope.positions.problem(at, what, hint)
        scope.problems.append(replace(problem, excerpt=""))  # the line would show it
        return
    if not online.url:  # of a variable that is not set, which is told already
        return
    try:
        url = redis_url.parse(online.url)
    except redis_url.BadUrl as err:
        scope.report(at, str(err), err.hint)
        return
    if online.cluster and url.service is not None:
        scope.report(
            (*here, "cluster"), "a cluster has no sentinels", "remove it, or name a node in `url`", key=True
        )
    if online.cluster and url.db:
        scope.report(at, "a cluster has no databases but 0", "leave the number out")
    if "tls" in online.model_fields_set and not url.is_tls:
        scope.report(
            (*here, "tls"), "`tls` needs a url that begins with rediss", "write url: rediss://…", key=True
        )
    if online.tls.keyfile and not online.tls.certfile:
        scope.report((*here, "tls", "keyfile"), "a key without its certificate", "add certfile: …", key=True)
    if online.timeout <= 0:
        scope.report((*here, "timeout"), "`timeout` should be longer than nothing", "write 5s")


def check_entity(scope: Scope, path: Path, entity: Entity) -> None:
    for name, key_type in entity.join_keys.items():
        at = (*path, "join_keys", name)
        if key_type.name in NO_KEY:
            scope.report(at, f"{described(key_type)} cannot be a join key", "use int64 or string")
        if name in RESERVED_KEYS:
            scope.report(
                at, f"'{name}' is the moment in labels and requests", "name the join key otherwise", key=True
            )


def check_source(scope: Scope, path: Path, source: Source) -> None:
    _columns(scope, path, source)
    _timestamps(scope, path, source)
    _identity(scope, path, source)
    _origins(scope, path, source)
    if source.stream is not None and source.stream.kafka is not None:
        check_kafka(scope, (*path, "stream", "kafka"), source.stream.kafka)


def _columns(scope: Scope, path: Path, source: Source) -> None:
    folded: dict[str, str] = {}
    for name, column in source.columns.items():
        at = (*path, "schema", name)
        if name.casefold() in RESERVED_COLUMNS:
            scope.report(
                at,
                f"the column name '{name}' is reserved for the offline log",
                "rename it; `from` says where it comes from",
                key=True,
            )
        if (earlier := folded.setdefault(name.casefold(), name)) != name:
            scope.report(at, f"columns '{earlier}' and '{name}' differ in case only", "rename one", key=True)
        if column.format is not None and column.type.name != "timestamp":
            scope.report(
                (*at, "format"), f"`format` is for timestamps; '{name}' is {described(column.type)}", key=True
            )
        if column.from_ is not None and not all(column.from_.split(".")):
            scope.report(
                (*at, "from"), f"'{column.from_}' is not a path", "write names with one dot between them"
            )


def _timestamps(scope: Scope, path: Path, source: Source) -> None:
    for key, name in (
        ("timestamp_field", source.timestamp_field),
        ("created_timestamp", source.created_timestamp),
    ):
        found = None if name is None else scope.column(source, name, (*path, key))
        if found is not None and found.name != "timestamp":
            scope.report(
                (*path, key),
                f"column '{name}' is {described(found)}, not a timestamp",
                _timestamp_hint(found),
            )
    if source.created_timestamp == source.timestamp_field:
        scope.report(
            (*path, "created_timestamp"), "`created_timestamp` is the timestamp field itself", "remove it"
        )


def _timestamp_hint(found: ColumnType) -> str:
    if found.is_number:
        return "declare it as timestamp, with format: epoch_s, epoch_ms or epoch_us"
    return "declare it as timestamp" if found.name in {"string", "date"} else ""


def _identity(scope: Scope, path: Path, source: Source) -> None:
    if source.event_id is not None:
        found = scope.column(source, source.event_id, (*path, "event_id"))
        if found is not None and found.name in NO_KEY:
            scope.report(
                (*path, "event_id"), f"{described(found)} cannot be an event id", "use string or int64"
            )
    elif source.dedupe_within is not None:
        scope.report(
            (*path, "dedupe_within"),
            "`dedupe_within` needs an `event_id`",
            "name the column that identifies an event",
            key=True,
        )


def _origins(scope: Scope, path: Path, source: Source) -> None:
    if source.stream is None and source.batch is None:
        scope.report(
            (*path, "name"),
            f"source '{source.name}' comes from nowhere",
            "give it `stream` (new events arrive) or `batch` (a table that others keep)",
        )
    if source.batch is None:
        return
    if source.stream is not None and source.batch.until is None:
        scope.report(
            (*path, "batch"),
            f"source '{source.name}' has `stream` and `batch`, so `batch` needs `until`",
            "until: 2026-01-01 (before it the batch counts, from it on the stream)",
            key=True,
        )
    if source.stream is None and source.batch.until is not None:
        scope.report(
            (*path, "batch", "until"),
            "`until` is only for a source with `stream` and `batch`",
            "remove it",
            key=True,
        )

"""Checks of where the offline store lies: a folder, or a bucket whose keys stand in no file."""

import re
from dataclasses import replace

from featureflow_cli.spec.models import OfflineStoreConfig
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.scope import Scope

BUCKET = re.compile(r"s3a?://[a-z0-9][a-z0-9.-]*[a-z0-9](/[A-Za-z0-9!_.*'()=/-]*)?")
SECRETS = ("secret_access_key", "session_token")


def check_offline(scope: Scope, path: Path, store: OfflineStoreConfig) -> None:
    """`path` leads to the `offline_store` block."""
    if "://" not in store.path:
        for key in ("options", "cache"):
            if key in store.model_fields_set:
                what = f"`{key}` means nothing to an offline store in a folder"
                scope.report((*path, key), what, "remove it, or write path: s3://bucket/prefix", key=True)
        return
    if not BUCKET.fullmatch(store.path):
        hint = "write s3://bucket/prefix; for others that speak S3 set `options: {endpoint: https://…}`"
        scope.report((*path, "path"), "the offline store is a folder or a prefix in a bucket", hint)
    options = store.options
    if (options.access_key_id is None) != (options.secret_access_key is None):
        what = "`access_key_id` and `secret_access_key` are a pair"
        scope.report((*path, "options"), what, "write both, or none: then the environment's count")
    for key in SECRETS:
        place = (*path, "options", key)
        if getattr(options, key) is not None and not scope.positions.is_from_environment(place):
            what = f"`{key}` is a secret, and stands here for everybody to read"
            hint = f'write {key}: "${{env:AWS_{key.upper()}}}", or leave it to the environment'
            problem = scope.positions.problem(place, what, hint, key=True)
            scope.problems.append(replace(problem, excerpt=""))  # the line would show it

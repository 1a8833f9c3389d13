"""Connections keep their variables until they are used: no secret gets into models, registry or fingerprints."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from featureflow_cli.errors import DefinitionError
from featureflow_cli.spec.fingerprints import source_meaning
from featureflow_cli.spec.repo import dump_definitions_json, load

Write = Callable[[Mapping[str, str]], Path]
SOURCE = (
    "sources:\n  - name: events\n    schema: {user_id: int64, timestamp: timestamp}\n"
    "    timestamp_field: timestamp\n    stream:\n      kafka:\n        topic: t\n"
)
SECURED = SOURCE + (
    '        bootstrap_servers: "${env:BROKER}"\n'
    '        config: {sasl.password: "${env:PW}", sasl.username: "${env:USER_NAME:-me}"}\n'
)
ENVIRON = {"BROKER": "hunter1:9092", "PW": "hunter2", "USER_NAME": "hunter3"}


@pytest.mark.parametrize("environ", [ENVIRON, {}])
def test_placeholders_stay_in_what_the_registry_keeps(repo: Write, environ: Mapping[str, str]) -> None:
    definitions = load(repo({"features/a.yaml": SECURED}), None, environ).definitions
    kept = dump_definitions_json(definitions)
    assert '"sasl.password":"${env:PW}"' in kept
    assert '"bootstrap_servers":"${env:BROKER}"' in kept
    assert "hunter" not in kept


def test_a_literal_secret_is_refused_at_its_place_and_not_shown(repo: Write) -> None:
    literal = SOURCE + "        config: {sasl.password: hunter2}\n"
    with pytest.raises(DefinitionError, match=r"features/a\.yaml:8:18: .*secret") as caught:
        load(repo({"features/a.yaml": literal}), None, {})
    assert "${env:KAFKA_PASSWORD}" in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_how_one_connects_is_no_part_of_what_events_mean(repo: Write) -> None:
    root = repo({"features/a.yaml": SOURCE})
    plain = load(root, None, {})
    (root / "features" / "a.yaml").write_text(SECURED)
    secured = load(root, None, ENVIRON)
    assert plain.definitions.sources != secured.definitions.sources
    meanings = {source_meaning(loaded.definitions.sources[0], loaded.config) for loaded in (plain, secured)}
    assert len(meanings) == 1


BUCKET = """\
project: test
offline_store:
  path: s3://bucket/shop
  options: {access_key_id: a, secret_access_key: "%s"}
"""


def test_a_bucket_takes_its_secret_from_the_environment_only(repo: Write) -> None:
    """Neither the error nor the settings show it."""
    with pytest.raises(DefinitionError, match=r"feature_store\.yaml:4:31: .*secret") as caught:
        load(repo({"feature_store.yaml": BUCKET % "hunter2"}), None, {})
    assert "hunter" not in str(caught.value)
    config = load(repo({"feature_store.yaml": BUCKET % "${env:KEY}"}), None, {"KEY": "hunter2"}).config
    assert config.offline_store.options.secret_access_key == "hunter2"
    assert "hunter" not in repr(config)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("{path: 'gs://bucket/shop'}", "a folder or a prefix in a bucket"),
        ("{path: 's3://bucket/sh%20op'}", "a folder or a prefix in a bucket"),
        ("{path: data, options: {region: x}}", "means nothing to an offline store in a folder"),
        ("{path: 's3://bucket/shop', options: {access_key_id: x}}", "are a pair"),
        ("{path: 's3://bucket/shop', options: {endpoint: 'minio:9000'}}", "endpoint"),
    ],
)
def test_what_is_no_bucket_is_said(repo: Write, store: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        load(repo({"feature_store.yaml": f"project: test\noffline_store: {store}\n"}), None, {})

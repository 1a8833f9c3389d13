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

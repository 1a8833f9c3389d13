"""A store that is removed, loses its answers or does not answer: said once, and nothing counts twice or is lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline.buckets import Connection, opened
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.log import OfflineLog
from tests.integration.offline.places import Stored, in_bucket
from tests.integration.offline.shop import events, positions, source
from tests.integration.offline.test_letters import letters
from tests.services.processes import free_port
from tests.services.s3 import S3Server

COMMIT = r"PUT .*/_delta_log/\d+\.json"


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_table_removed_while_in_use_is_noticed_once(stored: Stored, made_anew: bool) -> None:
    """The worker must take everything up anew; what it held is of another table."""
    log = OfflineLog(stored.place, source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    stored.clear()
    if made_anew:
        other = OfflineLog(stored.place, source())
        other.append(events(log, 0, 0, 2), {0: (0, 2)}, other.snapshot())
    with pytest.raises(StoreUnavailable, match=r"No such file|made anew"):
        log.append(events(log, 0, 5, 9), {0: (5, 9)}, base)
    assert log.snapshot().ends == ({0: 2} if made_anew else {})
    assert log.append(events(log, 1, 0, 1), {1: (0, 1)}, log.snapshot()).ends[1] == 1


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> Stored:
    return in_bucket(s3, tmp_path)


@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_whose_answer_was_lost_counts_once(bucket: Stored, s3: S3Server, times: int) -> None:
    """However often the client repeats its put: it finds its own commit in the way, and the files stay."""
    log = OfflineLog(bucket.place, source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    s3.lose_answers(COMMIT, times)
    after = log.append(events(log, 0, 5, 9), {0: (5, 9)}, base)
    assert after.ends == {0: 9}
    assert positions(after) == [(0, offset) for offset in range(9)]
    assert log.append(events(log, 0, 9, 12), {0: (9, 12)}, after).ends == {0: 12}


def test_letters_whose_answer_was_lost_stand_once(bucket: Stored, s3: S3Server) -> None:
    held = DeadLetters(bucket.place)
    held.append(letters([("a", 0, 1)]))
    s3.lose_answers(COMMIT)
    assert held.append(letters([("a", 0, 1), ("a", 0, 2)])) == 1
    assert held.append(letters([("a", 0, 1), ("a", 0, 2)])) == 0
    assert held.read().num_rows == 2


def test_a_compaction_whose_answer_was_lost_keeps_its_file(bucket: Stored, s3: S3Server) -> None:
    log = OfflineLog(bucket.place, source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    log.append(events(log, 0, 5, 9), {0: (5, 9)}, base)
    s3.lose_answers(COMMIT)
    assert log.compact().after == 1
    assert positions(log.snapshot()) == [(0, offset) for offset in range(9)]


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_and_found_again(bucket: Stored, s3: S3Server) -> None:
    """Frozen, it keeps its connections and says nothing; thawed, the same commit goes through once."""
    log = OfflineLog(bucket.place, source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    s3.process.freeze()
    try:
        with pytest.raises(StoreUnavailable) as raised:
            log.append(events(log, 0, 5, 9), {0: (5, 9)}, base)
    finally:
        s3.process.thaw()
    assert str(bucket.place) in str(raised.value)
    assert "secret" not in str(raised.value)
    after = log.append(events(log, 0, 5, 9), {0: (5, 9)}, log.snapshot())
    assert positions(after) == [(0, offset) for offset in range(9)]


def test_nobody_there_is_said_in_seconds(tmp_path: Path) -> None:
    """A wrong endpoint: what, where, and no secret."""
    nobody = Connection(
        endpoint=f"http://127.0.0.1:{free_port()}",
        region="eu-central-1",
        access_key_id="key",
        secret_access_key="very-secret",
    )
    place = opened("s3://bucket/log", nobody, tmp_path / "cache")
    log = OfflineLog(place, source())
    with pytest.raises(StoreUnavailable) as raised:
        log.snapshot()
    assert "s3://bucket/log" in str(raised.value)
    assert "very-secret" not in str(raised.value) + repr(replace(nobody))
    with pytest.raises(StoreUnavailable):
        DeadLetters(place).read()

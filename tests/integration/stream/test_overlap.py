"""What a stream does while its online store is at work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from featureflow_cli.compute.codes import Bools
from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.online.store import Send
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.run import run
from featureflow_cli.stream.worker import Worker
from tests.integration.stream.repo import opened, put, write_repo
from tests.integration.stream.test_run import events


def test_the_next_batch_is_asked_for_while_the_store_has_all_of_the_last_and_has_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repo(tmp_path)
    put(tmp_path, "1", events(1, 30))
    poll, sending, asked, overtaken = Worker.poll, SqliteStore.sending, threading.Event(), list[bool]()

    @contextmanager
    def slow(store: SqliteStore) -> Iterator[Send]:
        with sending(store) as send:

            def sent(*words: Any) -> Callable[[], Bools]:
                answer = send(*words)
                asked.clear()

                def late() -> Bools:
                    overtaken.append(asked.wait(10))
                    return answer()

                return late

            yield sent

    def noted(worker: Worker, *words: Any) -> Batch | None:
        asked.set()
        return poll(worker, *words)

    # both go on to the real ones: here is only seen, and decided, which comes first
    monkeypatch.setattr(SqliteStore, "sending", slow)
    monkeypatch.setattr(Worker, "poll", noted)
    ended = run(opened(tmp_path), once=True, stop=threading.Event())
    assert overtaken == [True, True]
    assert ended.sources[0].accepted == 30

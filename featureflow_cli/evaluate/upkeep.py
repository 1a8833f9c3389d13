"""The care of the offline store's tables, on demand (`compact`) and beside a running stream (`Upkeep`)."""

from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featureflow_cli.errors import FeatureflowError, NotFound, did_you_mean
from featureflow_cli.evaluate.project import Project
from featureflow_cli.offline.compaction import MANY, Compacted, is_due
from featureflow_cli.offline.snapshots import Snapshot

if TYPE_CHECKING:
    from featureflow_cli.offline.letters import DeadLetters
    from featureflow_cli.offline.log import OfflineLog

LETTERS = "dead-letters"


@dataclass(frozen=True)
class Care:
    """What was done to one table; `deleted` counts files that no version listed any more, None: not looked for."""

    table: str
    compacted: Compacted
    deleted: int | None


def tables(project: Project, name: str | None = None) -> "dict[str, OfflineLog | DeadLetters]":
    """The logs of all streamed sources as applied and the dead letters, or the one of them that is named."""
    from featureflow_cli.offline.letters import DeadLetters

    names = [source.name for source in project.repo.sources.values() if source.streamed]
    found: dict[str, OfflineLog | DeadLetters] = {each: project.log(each) for each in names}
    found[LETTERS] = DeadLetters(project.letters_place)
    if name is None:
        return found
    if name not in found:
        message = f"there is no streamed source '{name}'"
        raise NotFound(message, hint=did_you_mean(name, found) or f"one of: {', '.join(found)}")
    return {name: found[name]}


def tended(
    project: Project, name: str | None = None, *, retention_hours: int | None = None, dry_run: bool = False
) -> Iterator[Care]:
    """Join each table's small files and, with a retention, delete what nothing has listed for so long.

    Safe beside running streams. With `dry_run` it only says what would be done.
    """
    for each, table in tables(project, name).items():
        compacted = table.compact(dry_run=dry_run)
        deleted = None if retention_hours is None else len(table.vacuum(retention_hours, dry_run))
        yield Care(each, compacted, deleted)


class Upkeep:
    """Compaction beside a stream, one at a time and in a thread of its own, so that no commit waits for it.

    Commits go on meanwhile: each of the two looks again where the other was faster. Where several workers share
    a log, the one that holds its lowest partition sees to it; two at once would only waste work.
    """

    def __init__(self, project: Project, many: int = MANY) -> None:
        self._project = project
        self._many = many
        self._pool = ThreadPoolExecutor(1, "compaction")
        self._running: Future[Compacted] | None = None
        self.failure: FeatureflowError | None = None

    def tend(self, source: str, snapshot: Snapshot, held: Collection[int]) -> bool:
        """Start a compaction of the source's log if it is due and none is under way; whether it was started.

        `held` are the partitions of this worker. To be asked every minute or so: it lists the snapshot's files.
        """
        if self._running is not None and not self._running.done():
            return False
        if self._running is not None:
            error, self._running = self._running.exception(), None
            if error is not None and not isinstance(error, FeatureflowError):
                raise error
            self.failure = error
        if min(snapshot.ends, key=_order, default=None) not in held or not is_due(snapshot.files, self._many):
            return False
        log = self._project.log(source)  # an object of its own: logs are for one thread
        self._running = self._pool.submit(log.compact, self._many)
        return True

    def close(self) -> None:
        """Wait for the one that is under way."""
        self._pool.shutdown()


def _order(partition: int) -> tuple[bool, int]:
    """Kafka's partitions first: every worker of a group holds those below zero."""
    return (partition < 0, abs(partition))

"""Tables that others keep, read in place: listed once, decoded and judged as the stream would (design.md 4).

Nothing is copied. A file that is new is listed before it is read; the same verdicts hold for every reader, since
they follow from the manifest and the files alone.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.keeping import Kept, markers
from featureflow_cli.evaluate.project import Project
from featureflow_cli.plan.manifest import ListedFile, check_reached
from featureflow_cli.sources import files, letters
from featureflow_cli.sources.decode import decode
from featureflow_cli.sources.verdicts import Memory, judge

if TYPE_CHECKING:
    import pyarrow as pa

HISTORY = -3
"""The partition of the files of a history beside a stream, whose own files are `files.PARTITION`."""
LETTERS_BYTES = 64 * 2**20
"""Letters are handed on when there are so many: few large commits, and never all of a broken table in memory."""

Refuse = Callable[["pa.Table"], object]
"""What becomes of letters (letters.SCHEMA) of a table's events; handed the same ones, it keeps each once."""


def partition_of(source: Source) -> int:
    """The partition that the table's files are."""
    return HISTORY if source.streamed else files.PARTITION


def manifest_name(source: Source) -> str:
    """What the registry lists the table's files under: a source that is streamed as well has files of its own."""
    return f"{source.name}/batch" if source.streamed else source.name


def listed(project: Project, source: Source) -> list[ListedFile]:
    """The table's files, new ones listed; FeatureflowError where a listed one changed.

    And where states know files that the manifest does not list (its registry was put back from an old copy).
    The history of a source that is streamed is closed once states are built from it: a file that comes later
    would count in training and not online, so it is refused.
    """
    assert source.batch is not None
    name = manifest_name(source)
    known = project.registry.manifest(name)
    seen = files.look(project.root, source.batch, known)
    if seen and not source.streamed:
        reached = _reached(project, source)
        known = project.registry.manifest(name)  # looked up last: what states know by now was listed before
        check_reached(source.name, known, reached, project.registry.path)
    elif seen and (known or _is_built(project, source)):
        message = (
            f"{seen[0].path} has come to the history of source '{source.name}', which states are built from"
        )
        hint = "move it away; or give the source another name, and all of its history is read anew"
        raise FeatureflowError(message, hint=hint, at=seen[0].path)
    return project.registry.list_files(name, seen, project.clock()) if seen else known


def _is_built(project: Project, source: Source) -> bool:
    return any(view.source.name == source.name for view, _ in project.serving().values())


def _reached(project: Project, source: Source) -> int:
    """Up to where states of the table's views are complete; 0 where the online store cannot be asked.

    Training goes on without it then: a manifest is wrong only where its registry was lost or put back as well.
    """
    built = [Kept(view, build) for view, build in project.serving().values()]
    built += [Kept(project.repo.views[name], build) for name, build in project.builds().items()]
    try:
        known = [
            each
            for kept in built
            if kept.view.source.name == source.name
            for each in markers(project.online, kept)
        ]
    except StoreUnavailable:
        return 0
    return max((marker.get(files.PARTITION, 0) for marker in known if marker), default=0)


def history(project: Project, source: Source, refuse: Refuse) -> "Iterator[pa.Table]":
    """The accepted events of the table, in order of offset: the source's columns and the log's positions.

    All that are listed; whoever joins them with a log cuts them at `until`. What is refused is handed to
    `refuse` before the last table was taken.
    """
    import pyarrow as pa

    partition, refused = partition_of(source), [letters.SCHEMA.empty_table()]
    memory = Memory(source.dedupe_within_us)
    for batch in files.read(project.root, listed(project, source), source):
        decoded = decode(batch, source)
        recorded = batch.recorded_of(decoded.offsets)
        verdict = judge(decoded.rows, recorded, memory, source)
        memory.remember(verdict)
        refused += [
            letters.address(
                some,
                source=source.name,
                partition=partition,
                recorded_at_us=batch.recorded_of(some.column("offset").to_numpy()),
                lettered_at_us=project.clock(),
            )
            for some in (decoded.letters, verdict.letters)
            if some.num_rows
        ]
        if sum(some.nbytes for some in refused) >= LETTERS_BYTES:
            refuse(pa.concat_tables(refused))
            refused = refused[:1]
        rows = decoded.rows.append_column(
            "_partition", pa.array(np.full(len(decoded.rows), partition), pa.int64())
        )
        ingested = pa.array(np.broadcast_to(np.asarray(recorded, np.int64), len(rows)), pa.int64())
        rows = rows.append_column("_ingested_at", ingested.cast(pa.timestamp("us", tz="UTC")))
        yield rows.filter(pa.array(verdict.accepted))
    refuse(pa.concat_tables(refused))

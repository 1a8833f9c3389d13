"""How far everything has got: what is applied, what the logs hold, how complete every view's state is."""

from collections.abc import Mapping
from dataclasses import dataclass

from featureflow_cli.compute.views import Source, View
from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.keeping import Kept, markers
from featureflow_cli.evaluate.lag import TopicLag, lag
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.topics import streamed
from featureflow_cli.plan.applied import Build
from featureflow_cli.sources.files import PARTITION


@dataclass(frozen=True)
class SourceStanding:
    """A source's log. `files_read` of `files_listed`; `newest_us` is the log's newest event time.

    Of a table that others keep nobody counts the events (None): its files are read as far as all states know them.
    """

    name: str
    events: int | None
    newest_us: int | None
    files_listed: int
    files_read: int
    bytes: int
    letters: int


@dataclass(frozen=True)
class ViewStanding:
    """A view's state. `behind` counts partitions of the log (or the table's files) that it does not know to the end.

    `status`: `serving`; `building` (with nothing that serves); `changing` (an earlier build serves meanwhile).
    """

    name: str
    status: str
    entities: int
    behind: int
    field: str

    def is_up_to_date(self, lags: Mapping[str, int | None]) -> bool | None:
        """By its log, and by its topic if it has one (`view_lags`); None where only the latter is not known."""
        if self.status != "serving" or self.behind:
            return False
        lag = lags.get(self.name, 0)
        return None if lag is None else lag == 0


def topics(project: Project) -> dict[str, TopicLag | StoreUnavailable]:
    """Of every applied source that streams from Kafka; where its brokers are away, what they say."""
    return {name: _topic(project, project.repo.sources[name]) for name in streamed(project, project.repo)}


def view_lags(project: Project, found: Mapping[str, TopicLag | StoreUnavailable]) -> dict[str, int | None]:
    """Per view of those topics the events that its online states are not known to hold.

    None: brokers are away, or the topic is another one by now.
    """
    lags: dict[str, int | None] = {}
    for name, view in project.repo.views.items():
        topic = found.get(view.source.name)
        if isinstance(topic, TopicLag) and not topic.is_replaced:
            lags[name] = topic.view_lag(name)
        elif topic is not None:
            lags[name] = None
    return lags


def sources(project: Project) -> list[SourceStanding]:
    """Of every applied source, as applied."""
    from featureflow_cli.offline.letters import DeadLetters

    counts = DeadLetters(project.letters_place).counts()
    return [_source(project, source, counts.get(source.name, 0)) for source in project.repo.sources.values()]


def views(project: Project) -> list[ViewStanding]:
    """Of every applied view, as applied."""
    builds = project.builds()
    serving = {build.view for build in project.registry.builds() if build.status == "serving"}
    return [
        _view(project, view, builds[name], name in serving)
        for name, view in project.repo.views.items()
        if name in builds
    ]


def _topic(project: Project, source: Source) -> TopicLag | StoreUnavailable:
    try:
        return lag(project, source)
    except StoreUnavailable as err:
        return err


def _source(project: Project, source: Source, letters: int) -> SourceStanding:
    manifest = project.registry.manifest(source.name)
    if not source.streamed:
        reached, held = _reached(project, source), sum(file.size for file in manifest)
        read = sum(file.end_offset <= reached for file in manifest)
        return SourceStanding(source.name, None, None, len(manifest), read, held, letters)
    snapshot = project.log(source.name).snapshot()
    end = snapshot.ends.get(PARTITION, 0)
    return SourceStanding(
        source.name,
        events=sum(file.rows for file in snapshot.files),
        newest_us=max((file.last_us for file in snapshot.files if file.last_us is not None), default=None),
        files_listed=len(manifest),
        files_read=sum(file.end_offset <= end for file in manifest),
        bytes=sum(file.bytes for file in snapshot.files),
        letters=letters,
    )


def _ends(project: Project, source: Source) -> Mapping[int, int]:
    """Up to where there are events, by partition: those of the log, or the listed files of a table."""
    if source.streamed:
        return project.log(source.name).snapshot().ends
    manifest = project.registry.manifest(source.name)
    return {PARTITION: manifest[-1].end_offset} if manifest else {}


def _reached(project: Project, source: Source) -> int:
    """Up to where the states of all of a table's views know its files; 0 where it has none."""
    found = [
        (marker or {}).get(PARTITION, 0)
        for name, build in project.builds().items()
        if (view := project.repo.views[name]).source.name == source.name
        for marker in markers(project.online, Kept(view, build))
    ]
    return min(found, default=0)


def _view(project: Project, view: View, build: Build, anything_serves: bool) -> ViewStanding:
    status = "changing" if build.status == "building" and anything_serves else build.status
    known = markers(project.online, Kept(view, build))
    ends = _ends(project, view.source)
    behind = sum(
        any(marker is None or marker.get(partition, 0) < end for marker in known)
        for partition, end in ends.items()
    )
    return ViewStanding(
        view.name, status, project.online.count(view.entity, build.field), behind, build.field
    )

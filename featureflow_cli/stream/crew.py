"""The workers of all sources of a project, by the applied definitions; and what becomes of builds."""

from collections.abc import Mapping

from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.evaluate.project import Project
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.plan.applied import Build
from featureflow_cli.stream.ground import Ground
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.worker import Worker
from featureflow_cli.times import MINUTE_US

DROPPED_AFTER_US = MINUTE_US
"""A retired state stays this long, for servers that have not looked into the registry since."""


class Crew:
    """One worker per source that has anything to do. Counts outlive the workers."""

    def __init__(
        self, project: Project, progress: dict[str, Progress], once: bool = False, skip_lost: bool = False
    ) -> None:
        self.progress = progress
        self._once = once
        self._skip_lost = skip_lost
        self._project = project
        self._online = project.online
        # Retired before this run: servers have had the time to notice.
        self._retired: dict[int, int] = {build.number: 0 for build in _of_status(project, "retired")}
        self._drop_retired()
        self._ground, self.workers = self._hire(None)

    def is_outdated(self) -> bool:
        """Whether `learn` has anything to do; only the registry is asked, so a batch may be written meanwhile."""
        self._project.relearn()
        return bool(self._past_keeping()) or not self._is_hired_for_what_is()

    def learn(self) -> bool:
        """Look what is applied, and which builds there are; with other ones all sources are taken up anew [learn].

        True: there are. Another worker may have had a build renewed (`Worker.take_up`).
        """
        self._drop_retired()
        self._project.relearn()
        if self._is_hired_for_what_is():
            return False
        ground, workers = self._hire(self._ground)
        self.lose()
        self._ground.close(ground)
        self._ground, self.workers = ground, workers
        return True

    def _is_hired_for_what_is(self) -> bool:
        """Whether the workers write the builds of what is applied, and no others."""
        if self._project.applied_or_none != self._hired_for:
            return False
        held = {kept.view.name: kept.build.number for worker in self.workers for kept in worker.members}
        return held == {name: build.number for name, build in self._project.builds().items()}

    @property
    def held(self) -> tuple[int, int]:
        """Rows and bytes that wait for the next offline commit, in memory."""
        pending = [batch for worker in self.workers for batch in worker.commits.held]
        rows = sum(batch.rows.num_rows + batch.letters.num_rows for batch in pending)
        return rows, sum(batch.size for batch in pending)

    def lose(self) -> None:
        for worker in self.workers:
            worker.lose()

    @property
    def is_building(self) -> bool:
        """Whether there are builds that do not serve yet."""
        return any(kept.build.status == "building" for worker in self.workers for kept in worker.members)

    def settle(self) -> None:
        """Builds that have caught up with the one before them serve from now on."""
        serving = {build.view: build for build in _of_status(self._project, "serving")}
        for worker in self.workers:
            if worker.needs_take_up:
                continue
            for kept in worker.members:
                before, base = serving.get(kept.view.name), worker.commits.base
                logged = {} if base is None else base.ends
                if kept.build.status == "building" and _caught_up(self._online, kept.build, before, logged):
                    self._project.registry.serve(kept.build.number)
                    worker.serves(kept)

    def close(self) -> None:
        self._ground.close()

    def _hire(self, before: Ground | None) -> tuple[Ground, list[Worker]]:
        """Workers by what is applied now, and their ground. Only once they all stand is it known as hired for."""
        ground, hired_for = Ground(self._project, before), self._project.applied_or_none
        try:
            workers = self._workers(ground)
        except BaseException:
            ground.close(before)
            raise
        self._hired_for = hired_for
        return ground, workers

    def _workers(self, ground: Ground) -> list[Worker]:
        builds = self._project.builds()
        workers = []
        for source in self._project.repo.sources.values():
            members = [
                Kept(view, builds[view.name])
                for view in self._project.repo.views.values()
                if view.source.name == source.name and view.name in builds
            ]
            if source.streamed or members:
                progress = self.progress.setdefault(source.name, Progress(source.name))
                worker = Worker(source, members, ground.outside(source, progress), progress)
                worker.once, worker.skip_lost = self._once, self._skip_lost
                workers.append(worker)
        return workers

    def _drop_retired(self) -> None:
        for build in self._past_keeping():
            self._online.drop(build.field)
            self._project.registry.drop(build.number)

    def _past_keeping(self) -> list[Build]:
        """Those that were first seen retired long enough ago."""
        now_us = self._project.clock()
        return [
            build
            for build in _of_status(self._project, "retired")
            if now_us - self._retired.setdefault(build.number, now_us) >= DROPPED_AFTER_US
        ]


def _of_status(project: Project, status: str) -> list[Build]:
    return [build for build in project.registry.builds() if build.status == status]


def _caught_up(online: OnlineStore, build: Build, before: Build | None, logged: Mapping[int, int]) -> bool:
    """Whether the build's states are as complete as the log, and as those that serve now, if any do."""
    for shard in range(online.shards):
        mine = online.marker(shard, build.field)
        theirs = {} if before is None else online.marker(shard, before.field) or {}
        if mine is None or any(
            mine.get(partition, 0) < end for ends in (logged, theirs) for partition, end in ends.items()
        ):
            return False
    return True

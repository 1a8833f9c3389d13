"""The two stores of a project, to be handed to whoever compares or trains on them."""

from dataclasses import dataclass

import pyarrow as pa

from featureflow_cli.compute.selecting import select
from featureflow_cli.compute.sql_text import quoted
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.relations import relations


@dataclass(frozen=True)
class OfflineStore:
    """Every accepted event of a project, of every source."""

    project: Project

    def events(self, source: str) -> pa.Table:
        """All accepted events of a source in its own columns, in order of time, in memory at once."""
        self.project.relearn()
        repo = self.project.repo
        if source not in repo.sources:
            message = f"no source is named '{source}'"
            hint = did_you_mean(source, repo.sources) or f"one of: {', '.join(repo.sources)}"
            raise NotFound(message, hint=hint)
        views = [f"{view.name}:*" for view in repo.views.values() if view.source.name == source]
        if not views:
            message = f"no feature view reads source '{source}'"
            raise UsageError(message)
        columns = ", ".join(quoted(name) for name in repo.sources[source].columns)
        order = quoted(repo.sources[source].timestamp_field)
        with self.project.engine() as engine:
            names = relations(self.project, engine, select(repo, views)).names
            return engine.table(f"SELECT {columns} FROM {names[source]} ORDER BY {order}")


@dataclass(frozen=True)
class OnlineStore:
    """The state of every entity of a project, read when serving."""

    project: Project

    def count(self, view: str) -> int:
        """How many entities have a state of that view; 0 where it is not built yet."""
        self.project.relearn()
        repo = self.project.repo
        if view not in repo.views:
            message = f"no feature view is named '{view}'"
            raise NotFound(message, hint=did_you_mean(view, repo.views))
        serving = self.project.serving()
        if view not in serving:
            return 0
        _, build = serving[view]
        return self.project.online.count(build.entity, build.field)

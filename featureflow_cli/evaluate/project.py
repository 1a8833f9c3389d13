"""A project on disk with everything that verbs work on, opened when first asked for.

What is *written* (the YAML) and what is *applied* (the registry) are two things: `stream`, `serve` and
`build-dataset` run on the applied definitions and say so where the written ones differ (`drift`).
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from featureflow_cli.errors import DefinitionError, StoreUnavailable, UsageError
from featureflow_cli.evaluate import topics
from featureflow_cli.plan.applied import Applied, Build
from featureflow_cli.plan.diff import NOTHING, Defined, Present, make_plan
from featureflow_cli.plan.history import History, history
from featureflow_cli.plan.registry import Registry
from featureflow_cli.plan.steps import Change, Plan
from featureflow_cli.spec.models import Definitions, StoreConfig
from featureflow_cli.spec.repo import (
    LoadedRepo,
    dump_definitions_json,
    load,
    load_config,
    load_definitions_json,
)
from featureflow_cli.times import Clock

if TYPE_CHECKING:
    from featureflow_cli.compute.views import Repo, View
    from featureflow_cli.engines.duckdb import Engine
    from featureflow_cli.offline.log import OfflineLog
    from featureflow_cli.offline.places import Place
    from featureflow_cli.online.store import OnlineStore


def open_project(
    directory: str | Path, target: str | None, environ: Mapping[str, str], clock: Clock
) -> "Project":
    """The project whose feature_store.yaml lies in `directory`; nothing is read yet."""
    return Project(Path(directory), target, environ, clock)


class Project:
    """Each part is opened once; what is wrong with it is raised when it is first asked for."""

    def __init__(self, root: Path, target: str | None, environ: Mapping[str, str], clock: Clock) -> None:
        self.root = root
        self.target = target
        self.environ = environ
        self.clock = clock
        self._repos: dict[int, Repo] = {}

    @cached_property
    def config(self) -> StoreConfig:
        """feature_store.yaml with the target merged in; readable even where the definitions are not."""
        return load_config(self.root, self.target, self.environ)

    @cached_property
    def written(self) -> LoadedRepo:
        """Config and definitions as the YAML has them now; DefinitionError with every problem."""
        return load(self.root, self.target, self.environ)

    @cached_property
    def written_repo(self) -> "Repo":
        """What is written, compiled: for `plan`, `test` and `--draft`."""
        return self._compile(self.written.config, self.written.definitions)

    @cached_property
    def registry(self) -> Registry:
        url = self.config.registry
        return Registry(url if "://" in url else self.root / url, self.config.project, self.target)

    @cached_property
    def applied_or_none(self) -> Applied | None:
        return self.registry.applied()

    @property
    def applied(self) -> Applied:
        """The newest applied state; UsageError where nothing was applied yet."""
        if self.applied_or_none is None:
            what = f"nothing is applied yet in project '{self.config.project}'{self._of_target}"
            raise UsageError(what, hint="run: featureflow apply")
        return self.applied_or_none

    @cached_property
    def repo(self) -> "Repo":
        """The applied definitions, compiled: what `stream`, `serve` and `build-dataset` run on."""
        return self._compile_applied(self.applied)

    def builds(self) -> dict[str, Build]:
        """Per applied view the live build (`building` or `serving`) that follows it; read afresh."""
        # Read before the builds: of an apply in between, `relearn` would know nothing.
        views = self.repo.views
        return {
            build.view: build
            for build in self.registry.builds()
            if build.is_live and build.view in views and build.fingerprint == views[build.view].fingerprint
        }

    def serving(self) -> "dict[str, tuple[View, Build]]":
        """Per view the build that may be read now, with the definition that it follows; read afresh.

        While a changed view's new state is being built, that is the definition of an earlier version.
        """
        found = {}
        for build in self.registry.builds():
            if build.status == "serving":
                view = self.repo.views.get(build.view)
                if view is None or view.fingerprint != build.fingerprint:
                    view = self.repo_at(build.version).views[build.view]
                found[build.view] = (view, build)
        return found

    def relearn(self) -> bool:
        """Look whether another version has been applied; True where this project now stands on that one."""
        newest = self.registry.applied()
        if newest == self.applied_or_none:
            return False
        self.applied_or_none = newest
        self.__dict__.pop("repo", None)
        return True

    def log(self, source: str) -> "OfflineLog":
        """The offline log of an applied source. One object per call: logs are for one thread."""
        return self._log(self.repo, source, self.applied.version)

    @cached_property
    def offline_place(self) -> "Place":
        """Where the offline store lies: the project's own folder, or a bucket."""
        from featureflow_cli.offline.buckets import Connection, opened
        from featureflow_cli.offline.places import Folder

        config = self.config.offline_store
        if "://" not in config.path:
            return Folder((self.root / config.path).absolute())
        given = Connection(**config.options.model_dump())
        return opened(config.path, given.completed(self.environ), (self.root / config.cache).absolute())

    def log_place(self, source: str) -> "Place":
        """Where the source's offline log lies."""
        return self.offline_place.child(source)

    @property
    def letters_place(self) -> "Place":
        """Where the dead letters of all sources lie; no source can have this name."""
        return self.offline_place.child("dead-letters")

    @cached_property
    def online(self) -> "OnlineStore":
        """The states; no server is asked yet."""
        settings = self.config.online_store
        if settings.type == "sqlite":
            from featureflow_cli.online.sqlite import SqliteStore

            return SqliteStore(self.root / settings.path, self.config.project, self.clock)
        from featureflow_cli.online.redis import RedisStore
        from featureflow_cli.online.redis_connections import access_of

        access = access_of(settings, self.root)
        return RedisStore(access, self.config.project, is_cluster=settings.cluster, clock=self.clock)

    def engine(self) -> "Engine":
        """A fresh DuckDB engine within the configured memory; the caller closes it."""
        if self.config.engine.type != "duckdb":
            what = f"engine '{self.config.engine.type}' is not in this version"
            raise StoreUnavailable(what, hint="set `engine: {type: duckdb}`")
        from featureflow_cli.engines.duckdb import Engine

        return Engine(memory_limit=self.config.engine.memory_limit)

    def plan(self) -> Plan:
        """From what is applied to what is written; reads only."""
        return self._plan(self._present())

    def changes(self) -> tuple[Change, ...]:
        """What differs between written and applied definitions; no store is asked for history."""
        version = self.applied_or_none.version if self.applied_or_none else 0
        return self._plan(Present(version, [], {}, {})).changes

    def drift(self) -> str | None:
        """One line on unapplied edits, for stderr; None where what is written is applied."""
        try:
            changes = self.changes()
        except DefinitionError as err:
            count = len(err.problems)
            return (
                f"the definitions as written have {count} problem{'s' * (count != 1)} (featureflow validate);"
                f" running on applied version {self.applied.version}"
            )
        if not changes:
            return None
        edits = ", ".join(f"{change.sign} {change.kind} {change.name}" for change in changes[:3])
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        return (
            f"unapplied edits ({edits}{more}): running on applied version {self.applied.version};"
            " run `featureflow apply` to use them"
        )

    def _plan(self, present: Present) -> Plan:
        after = Defined(
            self.written.definitions.model_copy(update={"unit_tests": ()}),
            self.written_repo,
            self.written.config.stream.allowed_future,
        )
        return make_plan(
            self._applied_definitions(),
            after,
            present,
            project=self.config.project,
            target=self.target,
            definitions_json=dump_definitions_json(after.definitions),
        )

    def _applied_definitions(self) -> Defined:
        applied = self.applied_or_none
        if applied is None:
            return NOTHING
        definitions = load_definitions_json(applied.definitions)
        return Defined(definitions, self.repo, applied.allowed_future_us)

    def _present(self) -> Present:
        logs: dict[str, str] = {}
        histories: dict[str, History] = {}
        for source in self.written_repo.sources.values():
            if not source.streamed or not self._has_log(source.name):
                continue
            snapshot = self._log(self.written_repo, source.name, 1).snapshot()
            if snapshot.version < 0:
                continue
            logs[source.name] = snapshot.meaning
            histories[source.name] = history((f.rows, f.first_us, f.last_us) for f in snapshot.files)
        version = self.applied_or_none.version if self.applied_or_none else 0
        found, read = topics.look(self, self.written_repo), self.registry.topics()
        return Present(version, self.registry.builds(), logs, histories, found, read)

    def _has_log(self, source: str) -> bool:
        from featureflow_cli.offline.delta import reported

        place = self.log_place(source)
        with reported(place):
            return place.holds_table()

    def _log(self, repo: "Repo", source: str, version: int) -> "OfflineLog":
        from featureflow_cli.offline.log import OfflineLog

        return OfflineLog(self.log_place(source), repo.sources[source], meaning_order=version)

    def repo_at(self, version: int) -> "Repo":
        """An earlier version's definitions, compiled once: they never change."""
        if version not in self._repos:
            self._repos[version] = self._compile_applied(self.registry.at(version))
        return self._repos[version]

    def _compile_applied(self, applied: Applied) -> "Repo":
        stream = self.config.stream.model_copy(update={"allowed_future": applied.allowed_future_us})
        config = self.config.model_copy(update={"stream": stream})
        return self._compile(config, load_definitions_json(applied.definitions))

    def _compile(self, config: StoreConfig, definitions: Definitions) -> "Repo":
        from featureflow_cli.compute.compiling import compile_repo

        return compile_repo(config, definitions)

    @property
    def _of_target(self) -> str:
        return f" for target '{self.target}'" if self.target else ""

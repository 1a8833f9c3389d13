"""What the global options said: which project a command works on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featureflow_cli.times import Clock, system_clock

if TYPE_CHECKING:
    import typer

    from featureflow_cli.evaluate.project import Project


@dataclass(frozen=True)
class Invocation:
    directory: str
    target: str | None
    environ: Mapping[str, str]
    clock: Clock = system_clock

    def path(self, path: Path) -> Path:
        """A path that an option names: relative to --chdir, as if the command had been started there."""
        return Path(self.directory) / path

    def project(self) -> "Project":
        """The project, opened lazily: nothing is read before it is asked for."""
        from featureflow_cli.evaluate.project import open_project

        return open_project(self.directory, self.target, self.environ, self.clock)


def invocation(ctx: "typer.Context") -> Invocation:
    """The invocation that the global options made."""
    found = ctx.find_object(Invocation)
    assert found is not None
    return found

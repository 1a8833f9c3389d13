"""States in the online store that no build explains, and that nothing will ever read or drop by itself.

A registry that was lost or put back from an old copy leaves them, and a stream that had not learned of an apply as
that dropped a state, and wrote it once more.
"""

from featureflow_cli.evaluate.project import Project


def remains(project: Project) -> list[str]:
    """Their fields; UsageError where nothing is applied, for then the registry may be the wrong one.

    Another registry may know them: that of a target with a registry of its own and the same online store.
    """
    assert project.applied is not None
    held = (
        project.online.fields()
    )  # before the builds are read: of one that is made meanwhile nothing is held yet
    return sorted(held - project.registry.fields())


def sweep(project: Project, fields: list[str]) -> None:
    for field in fields:
        project.online.drop(field)

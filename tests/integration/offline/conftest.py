"""Where the tests' tables lie: in a folder, and in a bucket of a server that speaks S3."""

from collections.abc import Callable

import pytest

from tests.integration.offline.places import Stored, in_bucket, in_folder


@pytest.fixture(scope="session", params=["folder", pytest.param("bucket", marks=pytest.mark.service("s3"))])
def new_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Stored]:
    """Makes places where nothing lies yet."""
    if request.param == "folder":
        return lambda: in_folder(tmp_path_factory.mktemp("folder"))
    server = request.getfixturevalue("s3")
    return lambda: in_bucket(server, tmp_path_factory.mktemp("bucket"))


@pytest.fixture
def stored(new_place: Callable[[], Stored]) -> Stored:
    """A place where nothing lies yet."""
    return new_place()

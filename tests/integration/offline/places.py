"""A place for a test's table, and what a test may want to see or do behind the product's back."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featureflow_cli.offline.buckets import Bucket, Connection, opened
from featureflow_cli.offline.places import Folder, Place
from tests.services.s3 import S3Server


@dataclass(frozen=True)
class Stored:
    """`paths` are those of all that lies there; `delete` takes one away; `server` is the bucket's."""

    place: Place
    paths: Callable[[], Sequence[str]]
    delete: Callable[[str], None]
    server: S3Server | None = None

    @property
    def commits(self) -> int:
        """How many commits make a test of many: one in a bucket takes longer."""
        return 25 if self.server is None else 8

    def data_files(self) -> list[str]:
        """Every data file that lies there, listed or not."""
        return [path for path in self.paths() if path.endswith(".parquet") and "_delta_log" not in path]

    def clear(self) -> None:
        """Take all of it away; a folder too."""
        for key in self.paths():
            self.delete(key)
        if isinstance(self.place, Folder):
            shutil.rmtree(self.place.path)


def in_folder(folder: Path) -> Stored:
    root = folder / "log"

    def paths() -> list[str]:
        return sorted(
            os.fspath(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    return Stored(Folder(root), paths, lambda key: (root / key).unlink())


def in_bucket(server: S3Server, folder: Path) -> Stored:
    bucket = server.bucket()

    def paths() -> list[str]:
        return [key.removeprefix("shop/log/") for key in server.keys(bucket)]

    place: Bucket = opened(
        f"s3://{bucket}/shop/log", Connection().completed(server.environ), folder / "cache"
    )
    return Stored(place, paths, lambda key: server.delete(bucket, f"shop/log/{key}"), server)

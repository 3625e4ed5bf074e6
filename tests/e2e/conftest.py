"""Fixtures of the end-to-end tests: clusters of real processes."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of two executors that the tests of a module share, with a gRPC frontend."""
    directory = Path(tempfile.mkdtemp(prefix="fe-", dir="/tmp"))
    made = Cluster(directory, grpc=True)
    try:
        made.start_session_manager()
        made.start_node("n1", 2)
        yield made
    finally:
        made.end()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_cluster(short_tmp: Path) -> Iterator[MakeCluster]:
    """`make_cluster(executors=2, ...)`: a cluster of one test alone, which may kill what it likes in it.

    With 0 executors it has no node.
    """
    made: list[Cluster] = []

    def make(executors: int = 2, **arguments: Any) -> Cluster:
        directory = short_tmp / str(len(made))
        directory.mkdir()
        cluster = Cluster(directory, **arguments)
        made.append(cluster)
        cluster.start_session_manager()
        if executors:
            cluster.start_node("n1", executors)
        return cluster

    yield make
    for cluster in made:
        cluster.end()

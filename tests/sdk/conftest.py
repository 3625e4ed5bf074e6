"""A scripted session manager and a connection to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from tests.sdk.scripted import ScriptedCluster


@pytest.fixture
def cluster(short_tmp: Path) -> Iterator[ScriptedCluster]:
    """A cluster that answers with the input in capitals."""
    scripted = ScriptedCluster(short_tmp)
    yield scripted
    scripted.end()


@pytest.fixture
def connection(cluster: ScriptedCluster) -> Iterator[flame.Connection]:
    """A connection to the scripted cluster."""
    with flame.connect(cluster.endpoint) as opened:
        yield opened

"""Large inputs and outputs, and consumers that are slow."""

import random

import pytest

import flame
from tests.e2e.cluster import PATIENCE_S, Cluster, peak_bytes, register
from tests.e2e.conftest import MakeCluster

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize("carrier", ["frames", "grpc"])
@pytest.mark.parametrize(("nbytes", "count"), [(16 * KIB, 500), (MIB, 24), (0, 1000)])
def test_payloads_are_intact(cluster: Cluster, carrier: str, nbytes: int, count: int) -> None:
    chance = random.Random(nbytes)
    inputs = [chance.randbytes(nbytes) for _ in range(count)]
    endpoint = cluster.endpoint if carrier == "frames" else cluster.http
    with flame.connect(endpoint, carrier=None if carrier == "frames" else "grpc", timeout=PATIENCE_S) as connection:
        register(connection, "Mirror")
        with connection.create_session("mirror") as session:
            for sent, got in zip(inputs, session.map(iter(inputs), timeout=60), strict=True):
                assert got == sent[::-1]
            futures = [session.run(task) for task in inputs]
            assert all(future.result(60) == task[::-1] for future, task in zip(futures, inputs, strict=True))
        stored = {result.task_id: result.output for result in connection.results(session.id, timeout=60)}
        assert stored == {task: inputs[(task - 1) % count][::-1] for task in range(1, 2 * count + 1)}


def test_common_data_reaches_every_executor(cluster: Cluster) -> None:
    with cluster.session("Gated", common_data=str(cluster.directory).encode()) as session:
        (cluster.directory / "x.go").touch()
        assert len(list(session.map([b"x"] * 50, timeout=60))) == 50


_SLOW = """
import sys, flame
from pathlib import Path

def peak_bytes():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

count, ordered = 6_000, sys.argv[1] == "ordered"
with flame.connect() as connection, connection.create_session("filler") as session, flame.connect() as other:
    outputs = session.map((b"65536" for _ in range(count)), ordered=ordered)
    assert len(next(outputs)) == 65536
    # Read nothing more until everything has run, or as much as is allowed to.
    try:
        for number, _ in enumerate(other.results(session.id, follow=True, timeout=2), 1):
            if number == count:
                break
    except TimeoutError:
        pass
    assert sum(len(output) == 65536 for output in outputs) == count - 1
print(peak_bytes())
"""


@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_a_slow_consumer_keeps_memory_bounded(make_cluster: MakeCluster, order: str) -> None:
    """375 MiB of results pass through; neither side holds them."""
    cluster = make_cluster(2)
    with cluster.connect() as connection:
        register(connection, "Filler")
    output, errors = cluster.script(_SLOW, order).communicate(timeout=100)
    assert errors == ""
    assert int(output) < 200 * MIB
    assert peak_bytes(cluster.pid("session-manager")) < 250 * MIB

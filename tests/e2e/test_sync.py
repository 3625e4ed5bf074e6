"""What is acknowledged or reported was synced before: seen from outside, in the session manager's system calls."""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true

CALLS = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,fsync,fdatasync"
RECEIVES = ("read", "readv", "recvfrom", "recvmsg")
SENDS = ("write", "writev", "sendto", "sendmsg")
SYNCS = ("fsync", "fdatasync")
_LINE = re.compile(r"(?:\[pid +)?(\d+)\]? +(\w+)\((\d+)")


class Trace:
    """The system calls of a process, in order: name, descriptor, whole line."""

    def __init__(self, path: Path) -> None:
        self.calls: list[tuple[str, int, str]] = []
        for line in path.read_text(errors="replace").splitlines():
            found = _LINE.match(line)
            if found:
                self.calls.append((found[2], int(found[3]), line))

    def find(self, names: tuple[str, ...], marker: str = "", after: int = -1, descriptor: int = -1) -> int:
        """Index of the first call of these with a marker in it."""
        for index, (name, used, line) in enumerate(self.calls):
            if index > after and name in names and marker in line and descriptor in (-1, used):
                return index
        raise AssertionError(f"no {names} of {marker!r} after call {after}")

    def descriptor(self, index: int) -> int:
        """The descriptor of a call."""
        return self.calls[index][1]


Tracing = Callable[[Cluster], subprocess.Popen[str]]


@pytest.fixture
def strace(short_tmp: Path) -> Iterator[Tracing]:
    """Attaches strace to a cluster's session manager, with the output in `trace`."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    started: list[subprocess.Popen[str]] = []

    def attach(cluster: Cluster) -> subprocess.Popen[str]:
        command = ["strace", "-f", "-s", "2000", "-e", f"trace={CALLS}", "-o", str(short_tmp / "trace")]
        process = subprocess.Popen(
            [*command, "-p", str(cluster.pid("session-manager"))], stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stderr is not None
        first = process.stderr.readline()
        if "attached" not in first:
            pytest.skip(f"strace cannot trace here: {first.strip()}")
        return process

    yield attach
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(20)


def test_a_sync_stands_before_each_acknowledgement_and_each_report(
    make_cluster: MakeCluster, strace: Tracing, short_tmp: Path
) -> None:
    cluster = make_cluster(0)
    marker = "the-input-of-a-task-in-a-trace"
    with cluster.connect() as connection:
        register(connection, "Mirror")
        session = connection.create_session("mirror")
        session.run(b"before")
        session.flush(60)
        process = strace(cluster)
        # No executor yet: nothing but this chunk is on the way.
        future = session.run(marker.encode())
        assert future.acknowledged(60)
        cluster.start_node("n1", 1)
        assert future.result(60) == marker[::-1].encode()
        session.invoke(b"after", timeout=60)
        process.send_signal(signal.SIGINT)
        wait_until_true(lambda: process.poll() is not None)
        session.close()
    trace = Trace(short_tmp / "trace")
    received = trace.find(RECEIVES, marker)
    acknowledged = trace.find(SENDS, after=received, descriptor=trace.descriptor(received))
    assert received < trace.find(SYNCS, after=received) < acknowledged
    finished = trace.find(RECEIVES, marker[::-1])
    reported = trace.find(SENDS, marker[::-1], after=finished, descriptor=trace.descriptor(received))
    assert finished < trace.find(SYNCS, after=finished) < reported
    # The acknowledgement of an earlier report may come in between: nobody waits for it, so it goes last.
    number = re.search(r"\\246report(\\\d+)", trace.calls[finished][2])
    assert number is not None, "reports have a number"
    acknowledgement = f'AcknowledgeReport\\246report{number[1]}"'
    told = trace.find(SENDS, acknowledgement, after=finished, descriptor=trace.descriptor(finished))
    assert trace.find(SYNCS, after=finished) < told

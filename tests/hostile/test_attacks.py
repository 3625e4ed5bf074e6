"""Peers that mean harm, against a real session manager: it needs bounded memory, says who was sent away, and serves on.

What is measured: the median rate at which a well-behaved client's tasks of a few milliseconds are run by two executors,
before and while the attack goes on. Executors and client leave most of the machine free, and attackers are paced and
have a low priority (see `attacker`), so that what is seen is the session manager's doing and not the number of
processors. A measurement may still be wrong: it is repeated twice before it counts. Where others keep the machine busy
all the time, and attack and client fight for what is left, less is asked: the rest is not the session manager's doing.
"""

import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flame.model.limits import MAX_UNFINISHED_BYTES, MAX_UNREAD_BYTES, MESSAGE_STALL_S, MIB
from tests.e2e.cluster import Cluster, peak_bytes
from tests.e2e.conftest import MakeCluster, make_cluster
from tests.hostile.attacker import CONNECTIONS, STALLED
from tests.hostile.attacker_grpc import HUGE, HUGE_SENT_BYTES
from tests.support import ROOT, wait_until_true

__all__ = ["make_cluster"]

ROUNDS = 5
ROUND_TASKS = 300
TASK_MS = b"2"
LEAST_SHARE = 0.8
LEAST_SHARE_BUSY = 0.4
IDLE = 0.75
"""Share of the machine's time that nobody uses, below which others keep it busy."""
TRIES = 3
FEW_BYTES = 64 * MIB

ATTACKS = {
    "garbage": ("does not speak Flame's frames", FEW_BYTES),
    "messages": ("", FEW_BYTES),
    "calls": ("", FEW_BYTES),
    "slow": ("the other side does not read", 2 * FEW_BYTES + MAX_UNREAD_BYTES),
    "stalled": ("stalled in the middle of a message", FEW_BYTES + STALLED * MIB),
    "huge": ("the unfinished messages of all peers take more than", FEW_BYTES + 2 * MAX_UNFINISHED_BYTES),
    "connections": ("no Hello within|have not said Hello", 3 * FEW_BYTES),
    "grpc_garbage": ("", 2 * FEW_BYTES),
    "grpc_messages": ("", 2 * FEW_BYTES),
    "grpc_calls": ("", 2 * FEW_BYTES),
    "grpc_slow": ("the other side does not read", 3 * FEW_BYTES + MAX_UNREAD_BYTES),
    "grpc_unread": ("the other side does not read", FEW_BYTES + 2 * MAX_UNREAD_BYTES),
    "grpc_huge": ("", 2 * FEW_BYTES + 2 * HUGE * HUGE_SENT_BYTES),
    "grpc_connections": ("", 3 * FEW_BYTES),
}
"""What the log says (a pattern), and the memory it may cost.

Nothing is asked of the log where a flood is well-formed, which is not complained of, and where bytes are not HTTP/2 or
a message is never finished over HTTP: grpc itself drops those and tells nobody.
"""


@contextmanager
def attack(kind: str, cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """An attacker's process, which has begun."""
    program, place = "attacker", cluster.endpoint.removeprefix("unix://")
    if kind.startswith("grpc_"):
        program, place = "attacker_grpc", cluster.http.removeprefix("http://")
    command = [sys.executable, "-m", f"tests.hostile.{program}", kind, place]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "attacking\n"
        yield process
        assert process.poll() is None, "the attacker gave up"
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait(60)


def rates(cluster: Cluster) -> list[float]:
    """Tasks a second of a well-behaved client, round by round."""
    found = []
    with cluster.session("Sleep") as session:
        list(session.map([TASK_MS] * 20))
        for _ in range(ROUNDS):
            begin = time.monotonic()
            assert len(list(session.map([TASK_MS] * ROUND_TASKS))) == ROUND_TASKS
            found.append(ROUND_TASKS / (time.monotonic() - begin))
    return found


def machine_is_quiet() -> bool:
    """Whether others leave the machine to this test, which does nothing just now."""
    before = processor_times()
    wait_until_true(lambda: sum(processor_times()) - sum(before) >= 50 * len(os.sched_getaffinity(0)))
    passed = [after - start for after, start in zip(processor_times(), before, strict=True)]
    return sum(passed[3:5]) >= IDLE * sum(passed)  # idle, and waiting for a disk


def processor_times() -> list[int]:
    """What the processors have spent their time on, in hundredths of a second, in the order of proc(5)."""
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


@pytest.mark.alone
@pytest.mark.timeout(240, func_only=True)
@pytest.mark.parametrize("kind", ATTACKS)
def test_an_attack_costs_little(kind: str, make_cluster: MakeCluster) -> None:
    said, most_bytes = ATTACKS[kind]
    if kind == "connections" and resource.getrlimit(resource.RLIMIT_NOFILE)[1] < CONNECTIONS + 500:
        pytest.skip("this user may not open so many files")
    cluster = make_cluster(2, grpc=kind.startswith("grpc_"))
    pid = cluster.pid("session-manager")
    shares: list[float] = []
    least = LEAST_SHARE
    quiet_bytes = 0
    for _ in range(TRIES):
        least = LEAST_SHARE if machine_is_quiet() else LEAST_SHARE_BUSY
        before = statistics.median(rates(cluster))
        quiet_bytes = quiet_bytes or peak_bytes(pid)  # of the first try: a peak only grows
        with attack(kind, cluster):
            under_attack = statistics.median(rates(cluster))
            wait_until_true(
                lambda: re.search(said, cluster.log("session-manager")), MESSAGE_STALL_S + 60, f"the log says {said!r}"
            )
        shares.append(under_attack / before)
        if shares[-1] >= least:
            break
    assert max(shares) >= least, shares
    assert peak_bytes(pid) - quiet_bytes < most_bytes
    assert cluster.started["session-manager"].poll() is None

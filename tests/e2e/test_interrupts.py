"""Exceptions of signal handlers, as of Ctrl-C, at any moment of a client's calls lose nothing that was submitted."""

import subprocess
import sys

from tests.e2e.cluster import Cluster, register
from tests.support import ROOT

INTERRUPTS = 1_500
CLIENT = f"""
import random, signal, sys
import flame

class Interrupt(Exception):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
chance = random.Random(7)
futures, interrupts, number = [], 0, 0
with flame.connect(sys.argv[1]) as connection, connection.create_session("echo") as session:
    while interrupts < {INTERRUPTS}:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.random() / 1000)
            try:
                while True:
                    number += 1
                    mine = b"%d" % number
                    future = session.run(mine)
                    futures.append((mine, future))
                    if chance.random() < 0.05:
                        session.flush(60)
                    elif chance.random() < 0.2:
                        future.result(60)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            interrupts += 1
        except RuntimeError as error:  # threading.Condition's own, where it was about to wait
            assert "unlocked" in str(error)
            interrupts += 1
    session.flush(60)
    wrong = [mine for mine, future in futures if future.result(60) != mine]
    assert not wrong, wrong
    assert session.invoke(b"a new one", timeout=60) == b"a new one"
print(len(futures))
"""


def test_a_client_goes_on_after_interrupts_at_any_moment(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        register(connection, "Echo")
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, cluster.endpoint],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 100

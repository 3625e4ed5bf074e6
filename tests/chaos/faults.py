"""The faults of a chaos run: what they break, how often each comes, and how long it lasts."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.chaos.cluster import LEASE_MS, ChaosCluster
from tests.chaos.facts import now_ns

MS = 1_000_000
PAUSES_MS = (20, 100, 300, 900)
LONG_PAUSE_MS = LEASE_MS + 3_000
CALM_SETTLE_S = 1.2
WILD_SETTLE_S = 0.3
"""How long a session manager has answered before it is killed or stopped."""
CALM = {
    "kill session manager": 5,
    "stop session manager": 3,
    "kill supervisor": 2,
    "kill client": 1,
    "stop client": 2,
    "cut clients": 3,
    "stall clients": 2,
}
"""Faults that must never make a task run twice, with their weights."""
WILD = {
    **CALM,
    "kill executor": 8,
    "stop executor": 6,
    "kill executor manager": 3,
    "stop executor manager": 3,
    "kill fork server": 3,
    "stop fork server": 2,
    "stop supervisor": 1,
    "cut nodes": 4,
    "stall nodes": 3,
    "fill disk": 1,
}
"""All faults, with their weights."""


class Faults:
    """Breaks a cluster, and mends what it has only stopped when its time has come.

    Attributes:
        counts: how often what was done.
        stopped: processes that are stopped now.
    """

    def __init__(self, cluster: ChaosCluster, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.stopped: set[int] = set()
        self._cluster = cluster
        self._chance = Random(seed)
        self._later: list[tuple[int, Callable[[], None]]] = []
        self._paused_long = False
        self._full = False

    def one(self, weights: dict[str, int], only: str = "") -> None:
        """Break something; what it is depends on the seed alone, on whom also on who is there: nothing if nobody is.

        A session manager is let come to work first. In calm times its node has to have found it again too: were it
        away for longer than a lease, tasks would have to run again.

        Args:
            weights: `CALM` or `WILD`.
            only: the one of them to take, or empty.
        """
        kind = only or self._chance.choices(list(weights), list(weights.values()))[0]
        which, pause_ms = self._chance.random(), self._chance.choice(PAUSES_MS)
        verb, _, what = kind.partition(" ")
        if verb in ("cut", "stall"):
            self._note(kind, f"connection of a {what.removesuffix('s')}", pause_ms)
            self._cluster.tell_proxies(what, "cut" if verb == "cut" else f"stall {pause_ms}")
        elif verb == "fill":
            self._fill()
        else:
            pids = self._clients() if what == "client" else self._cluster.pids(what.replace(" ", "-"))
            if what == "session manager":
                settle_s = CALM_SETTLE_S if weights is CALM else WILD_SETTLE_S
                pids = [pid for pid in pids if self._cluster.settled(pid, settle_s)]
            if pids:
                pid = pids[int(which * len(pids))]
                if verb == "stop" and pid in self.stopped:
                    return  # it would go on too early
                self._kill(what, pid) if verb == "kill" else self._stop(what, pid, pause_ms)

    def missing(self) -> str:
        """A kind of fault that has not come yet and can, or empty."""
        kinds = [kind for kind in WILD if not self.counts[kind] and not (kind == "fill disk" and self._cluster.no_disk)]
        return kinds[0] if kinds else ""

    def mend(self, all_of_it: bool = False) -> None:
        """Let go on what has been stopped for long enough."""
        due = [do for at_ns, do in self._later if all_of_it or at_ns <= now_ns()]
        self._later = [] if all_of_it else [entry for entry in self._later if entry[1] not in due]
        for do in due:
            do()

    def _note(self, kind: str, what: str, number: int, duration_ms: int = 0) -> None:
        self.counts[kind] += 1
        self._cluster.log.write("fault", what.replace(" ", "_"), number, duration_ms)

    def _clients(self) -> list[int]:
        return [process.pid for process in self._cluster.clients.values() if process.poll() is None]

    def _kill(self, what: str, pid: int) -> None:
        self._cluster.kill(pid)
        self._note(f"kill {what}", what, pid)

    def _stop(self, what: str, pid: int, pause_ms: int) -> None:
        if what == "executor manager" and not self._paused_long:
            self._paused_long, pause_ms = True, LONG_PAUSE_MS
        self._note(f"stop {what}", what if what in ("session manager", "client") else f"{what} stopped", pid, pause_ms)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self.stopped.add(pid)
        self._later.append((now_ns() + pause_ms * MS, lambda: self._go_on(pid)))

    def _go_on(self, pid: int) -> None:
        self.stopped.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _fill(self) -> None:
        if self._cluster.no_disk or self._full:
            return
        self._full = True
        self._note("fill disk", "disk", 0)
        self._cluster.fill_disk()
        self._later.append((now_ns() + 2_000 * MS, self._empty))

    def _empty(self) -> None:
        self._full = False
        self._cluster.empty_disk()

"""Nodes in simulation: the real half of the protocol over executors that are simulated."""

from collections.abc import Callable
from typing import Protocol

from flame.model.errors import FlameError
from flame.model.messages import Message
from flame.model.node_messages import AcknowledgeExit, NodeJoined
from flame.model.resources import Resources
from flame.protocol.node import Action, KillExecutor, NodeHalf, NodeIdentity, StartExecutor
from flame.sim.deaths import Deaths
from flame.sim.executors import SIGKILL, SimExecutor
from flame.sim.executors import Cluster as ClusterOfExecutors
from flame.sim.virtual import NS_PER_MS, RECONNECT_MS, Process, SimLink

_TICK_NS = 100 * NS_PER_MS
_CATCH_UP_NS = 2 * _TICK_NS
"""It has looked at what is due within this time."""


class Cluster(ClusterOfExecutors, Protocol):
    """What nodes and their executors need of the world around them."""

    deaths: Deaths


class SimNode(Process):
    """An executor manager: as `flame.executor_manager`, on the real half of the node's link.

    Attributes:
        executors: its processes, by executor and binding.
        doubtful: those whose end may not have been charged to a task, because they were ended or given up before.
        dead: it has ended; `retired`: and is never started again.
    """

    def __init__(self, cluster: Cluster, name: str, capacity: Resources, max_executors: int) -> None:
        super().__init__(cluster.time)
        self.name = name
        self.executors: dict[tuple[str, int], SimExecutor] = {}
        self._cluster = cluster
        self._capacity = capacity
        self._max_executors = max_executors
        self._starts = 0
        self.retired = False
        self._doomed: dict[tuple[str, int], None] = {}
        """Executors that are to be killed as soon as they are forked: the fork server is told in this order."""
        self.start()

    def start(self) -> None:
        """Start it anew, unless it is retired: as another instance, without executors."""
        if self.retired:
            return
        self._starts += 1
        self.dead = False
        self.paused_until_ns = 0
        self.unreachable_until_ns = 0
        self._link: SimLink | None = None
        self._joined_on: SimLink | None = None
        identity = NodeIdentity(
            node=self.name,
            instance=f"{self.name}/{self._starts}",
            capacity=self._capacity,
            max_executors=self._max_executors,
        )
        self.half = NodeHalf(identity)
        self.doubtful: dict[tuple[str, int], None] = {}
        self._exits: dict[tuple[str, int], SimExecutor] = {}
        """Processes that are gone, until the session manager has dealt with that."""
        self._connect()
        self._tick()

    @property
    def hangs(self) -> bool:
        """Whether it stands still, or did until just now, so that it had no time to do what is due."""
        return self._cluster.time.now_ns < self.paused_until_ns + _CATCH_UP_NS

    @property
    def lease_end_ns(self) -> int:
        """When its lease is over, as it stands in the page that its executors read."""
        return self.half.lease_end_ns

    def kill(self) -> None:
        """End it and with it its executors."""
        self.dead = True
        if self._link:
            self._link.end_by_peer()
        for process in list(self.executors.values()):
            process.exit(signal=SIGKILL, by_node=True)
        self.executors.clear()

    def retire(self) -> None:
        """End it for good."""
        self.retired = True
        self.kill()

    def stop(self) -> None:
        """End it in order: its executors first, so that it can still say that it was itself who ended them."""
        self.half.stop()
        self.doubt()
        for process in list(self.executors.values()):
            process.exit(signal=SIGKILL, by_node=True)
        self._later(100 * NS_PER_MS, self.kill)

    def doubt(self) -> None:
        """From now on nobody can be sure that ends of the processes that it has, or had, are charged to a task."""
        self.doubtful.update(dict.fromkeys((*self.half.executors, *self.half.exits)))

    def isolate(self, until_ns: int) -> None:
        """Its own link does not come back before `until_ns`."""
        self.unreachable_until_ns = until_ns
        if self._link:
            self._link.cut()

    def _later(self, delay_ns: int, do: Callable[[], None]) -> None:
        start = self._starts
        self._awake(delay_ns, lambda: do() if start == self._starts and not self.dead else None)

    def _tick(self) -> None:
        self._do(self.half.tick(self._cluster.time.now_ns))
        self._later(_TICK_NS, self._tick)

    def _connect(self) -> None:
        if self._cluster.time.now_ns < self.unreachable_until_ns:
            self._later(100 * NS_PER_MS, self._connect)
            return
        self._link = self._cluster.connect(self)
        self._link.send_up(self.half.hello())

    def received(self, link: SimLink, message: Message) -> None:
        """A message of the session manager."""
        if link is not self._link or self.dead:
            return
        if self.lease_end_ns <= self._cluster.time.now_ns:
            self.doubt()
        if isinstance(message, NodeJoined):
            self._joined_on = link
        elif isinstance(message, AcknowledgeExit):
            self._settled((message.executor, message.binding))
        try:
            self._do(self.half.received(message, self._cluster.time.now_ns))
        except FlameError as error:
            self._cluster.note(f"node {self.name}: {error.message}")
            link.end_by_peer()
            self.closed(link)

    def _settled(self, key: tuple[str, int]) -> None:
        """The session manager has dealt with the end of a process."""
        process = self._exits.pop(key, None)
        if process is not None and process.died_of and key not in self.doubtful:
            cluster = self._cluster
            cluster.deaths.counted(cluster.time.now_ns, str(process.session), process.died_of, f"executor {key}")

    def closed(self, link: SimLink) -> None:
        """The link is over."""
        if link is self._link and not self.dead:
            self._link = None
            self.half.disconnected()
            self._later(self._cluster.random.choice(RECONNECT_MS) * NS_PER_MS, self._connect)

    def _do(self, actions: "list[Message | Action]") -> None:
        random = self._cluster.random
        for action in actions:
            if isinstance(action, StartExecutor):
                start = action
                self._later(random.randrange(100_000, 10 * NS_PER_MS), lambda start=start: self._fork(start))  # type: ignore[misc]
            elif isinstance(action, KillExecutor):
                key = (action.executor, action.binding)
                self.doubtful[key] = None
                grace_ns = action.grace_ms * NS_PER_MS if random.random() < 0.2 else 0
                self._later(grace_ns + random.randrange(10_000, NS_PER_MS), lambda key=key: self._kill(key))  # type: ignore[misc]
            elif self._link:
                self._link.send_up(action)

    def _fork(self, start: StartExecutor) -> None:
        key = (start.bind.executor, start.bind.binding)
        if self._cluster.random.random() < 0.3 and self._cluster.start_fails():
            self._exited(key, None, 0, "it could not be forked")
            return
        process = self.executors[key] = SimExecutor(self._cluster, self, start)
        self._cluster.counts["starts"] += 1
        self.half.opened(*key, process.table, "log")
        if key in self._doomed:
            process.exit(signal=SIGKILL, by_node=True)
        for message in self.half.started(*key, 1):
            self._do([message])

    def _kill(self, key: tuple[str, int]) -> None:
        process = self.executors.get(key)
        if process:
            process.exit(signal=SIGKILL, by_node=True)
        elif key in self.half.executors:
            self._doomed[key] = None

    def noticed_exit(self, process: SimExecutor, exit_code: int | None, signal: int) -> None:
        """A process has ended."""
        delay_ns = self._cluster.random.randrange(10_000, 5 * NS_PER_MS)
        self._later(delay_ns, lambda: self._exited(process.key, exit_code, signal, ""))

    @property
    def joined(self) -> bool:
        """Whether it was welcomed back on a connection of which neither side knows that it is over."""
        return self._joined_on is not None and self._joined_on is self._link and not self._joined_on.ended

    def _exited(self, key: tuple[str, int], exit_code: int | None, signal: int, failure: str) -> None:
        process = self.executors.pop(key, None)
        if process is not None:
            self._exits[key] = process
        if process is None or not process.table.entered:
            self._cluster.history.start_failed(str(self.half.executors[key].bind.session))
        now_ns = self._cluster.time.now_ns
        for message in self.half.exited(*key, now_ns, exit_code=exit_code, signal=signal, failure=failure):
            self._do([message])

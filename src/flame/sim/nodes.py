"""Nodes and executors in simulation: the real halves of the protocol, and processes that are only pictures."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Protocol

import msgspec

from flame.model.errors import Aborted, FailureRecord, FlameError
from flame.model.messages import JoinNode, Message
from flame.model.resources import Resources
from flame.protocol.executor import SMALL_OUTPUT_BYTES, ExecutorHalf
from flame.protocol.node import Action, KillExecutor, NodeHalf, NodeIdentity, StartExecutor
from flame.protocol.runs import Run
from flame.protocol.shared_table import CURRENT, TABLE_BYTES, Phase, SharedTable
from flame.sim.virtual import NS_PER_MS, End, SimLink, VirtualTime

SIGABRT = 6
SIGKILL = 9
_DISMISSED = 75


class TaskKind(msgspec.Struct, frozen=True, array_like=True):
    """What a task of the simulation does; its input is this, as JSON.

    Args:
        behavior: `ok`, `fail` (raises), `abort` (ends its process each time) or `abort once`.
        starve: the control thread gets no time while it runs.
        output_bytes: length of the output.
    """

    number: int
    behavior: str = "ok"
    duration_us: int = 0
    starve: bool = False
    output_bytes: int = 0

    def output(self) -> bytes:
        """What it answers."""
        return b"%d" % self.number + bytes(self.output_bytes)


class Cluster(Protocol):
    """What nodes and executors need of the world around them."""

    time: VirtualTime
    random: Random
    counts: Counter[str]

    def connect(self, peer: End) -> SimLink:
        """A new link to the session manager."""

    def present(self, link: SimLink) -> bool:
        """Whether the session manager at the other end of a link still lives."""

    def note(self, text: str) -> None:
        """A line of the trace."""

    def task_started(self, process: "SimExecutor", task: int) -> int:
        """A task starts; returns how many times it was started before."""

    def task_died(self, process: "SimExecutor", task: int) -> None:
        """A process ended while it ran this task."""

    def start_fails(self) -> bool:
        """Whether a process fails to start now."""

    def start_failed(self, session: int) -> None:
        """A process of this session ended before it had entered it."""


class SimExecutor:
    """A process bound to one session: as `flame.executor`, with a main thread that is a chain of callbacks.

    Attributes:
        dead: its process has ended; `ended_well` after it left its session.
        answered_for: its node said what it holds while it had not read everything that a former session manager sent.
            What it had not read is handed out again and may be run beside.
    """

    def __init__(self, cluster: Cluster, node: "SimNode", start: StartExecutor) -> None:
        bind = start.bind
        self.key = (bind.executor, bind.binding)
        self.session = bind.session
        self.node = node
        self.dead = False
        self.ended_well = False
        self.answered_for = False
        self.table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
        self.half = ExecutorHalf(
            executor=bind.executor,
            binding=bind.binding,
            session=bind.session,
            pid=1,
            table=self.table,
            store_id=start.store_id,
            epoch=start.epoch,
        )
        self._cluster = cluster
        self._link: SimLink | None = None
        self._waiting: Callable[[], bool] | None = None
        self._starved: list[Callable[[], None]] | None = None
        self._phase(Phase.STARTING)
        self._connect()
        self._phase(Phase.WAITING)
        self._wait(self._enter_if_told)

    @property
    def behind(self) -> bool:
        """Whether there may be something on its stream that it has not read, from a session manager that is gone."""
        return self._link is not None and (self._starved is not None or not self._cluster.present(self._link))

    # --- the control thread ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if not self.dead:
            self._link = self._cluster.connect(self)
            self._link.send_up(self.half.hello())

    def received(self, link: SimLink, message: Message) -> None:
        """A message of the session manager, heard when user code lets the control thread run."""
        self._control(lambda: self._received(link, message))

    def closed(self, link: SimLink) -> None:
        """The stream is over."""
        self._control(lambda: self._closed(link))

    def _control(self, do: Callable[[], None]) -> None:
        if self._starved is not None:
            self._starved.append(do)
        elif not self.dead:
            do()

    def _received(self, link: SimLink, message: Message) -> None:
        if link is not self._link or self.dead:
            return
        try:
            answers = self.half.received(message)
        except Aborted as error:
            self._cluster.note(f"executor {self.key} ends: {error.message}")
            self.exit(exit_code=_DISMISSED)
            return
        except FlameError:
            self.half.disconnected()
            link.end_by_peer()
            self._closed(link)
            return
        self._send(answers)
        self._notify()

    def _closed(self, link: SimLink) -> None:
        if link is self._link and not self.dead:
            self._link = None
            self.half.disconnected()
            self._notify()
            self._cluster.time.after(self._cluster.random.randrange(5, 300) * NS_PER_MS, self._connect)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if self._link:
                self._link.send_up(message)

    # --- the main thread ---------------------------------------------------------------------------------------------

    def _wait(self, look: Callable[[], bool]) -> None:
        if not look():
            self._waiting = look

    def _notify(self) -> None:
        look, self._waiting = self._waiting, None
        if look is not None:
            self._wait(look)

    def _later(self, delay_ns: int, do: Callable[[], None]) -> None:
        self._cluster.time.after(delay_ns, lambda: None if self.dead else do())

    def _phase(self, phase: Phase) -> None:
        self.table.enter_phase(phase, self._cluster.time.now_ns)

    def _enter_if_told(self) -> bool:
        if self.half.enter is None:
            return False
        self._phase(Phase.ENTERING)
        self._later(self._cluster.random.randrange(100_000, 20 * NS_PER_MS), self._entered)
        return True

    def _entered(self) -> None:
        if self._cluster.start_fails():
            failure = FailureRecord("session enter raised").encode()
            self.table.fail(failure)
            self._send(self.half.enter_failed(failure))
            self.exit(exit_code=1)
            return
        self._phase(Phase.BOUND)
        self._send(self.half.succeeded())
        self._wait(self._turn)

    def _turn(self) -> bool:
        half, now_ns = self.half, self._cluster.time.now_ns
        self._send(half.turn(now_ns))
        if half.active and now_ns >= self.node.half.lease_end_ns:
            self._later(50 * NS_PER_MS, self._notify)
            return False
        if half.active:
            self._run(half.active)
            return True
        if half.leaving and half.idle:
            self._phase(Phase.LEAVING)
            self._later(self._cluster.random.randrange(100_000, 5 * NS_PER_MS), self._left)
            return True
        return False

    def _run(self, run: Run) -> None:
        """Start the next task, or take a turn: the two first steps of a task are those of `flame.executor.tasks`."""
        task = run.next
        place = task - run.base
        if place + 1 >= len(run.offsets):
            self._wait(self._turn)
            return
        self.table.words[CURRENT] = task
        now_ns = self._cluster.time.now_ns
        if task >= self.half.limit[0] or now_ns >= self.node.half.lease_end_ns:
            self._wait(self._turn)
            return
        run.started_ns = now_ns
        kind = msgspec.json.decode(run.blob[run.offsets[place] : run.offsets[place + 1]], type=TaskKind)
        before = self._cluster.task_started(self, task)
        if kind.starve:
            self._starved = []
        aborts = kind.behavior == "abort" or (kind.behavior == "abort once" and not before)
        do = (lambda: self.exit(signal=SIGABRT)) if aborts else (lambda: self._finish(run, task, kind))
        self._later(1_000 + kind.duration_us * 1_000, do)

    def _finish(self, run: Run, task: int, kind: TaskKind) -> None:
        starved, self._starved = self._starved, None
        output = kind.output()
        if kind.behavior == "fail":
            output = FailureRecord("it raised").encode()
            run.failed.append(task)
        special = kind.behavior == "fail" or len(output) > SMALL_OUTPUT_BYTES
        if special:
            run.large_bytes += len(output)
        run.outputs.append(output)
        for do in starved or ():
            self._control(do)
        if self.dead:
            return
        if special:
            self._wait(self._turn)
        else:
            self._run(run)

    def _left(self) -> None:
        self._phase(Phase.LEFT)
        self._send(self.half.left(b""))
        self._wait(self._end_if_drained)

    def _end_if_drained(self) -> bool:
        if not self.half.drained:
            return False
        self.exit(exit_code=0)
        return True

    def exit(self, *, exit_code: int | None = None, signal: int = 0, by_node: bool = False) -> None:
        """The process ends; its node notices a little later. What the node did itself is no death of the task."""
        if self.dead:
            return
        self.dead = True
        self.ended_well = exit_code == 0
        current = self.table.current
        if signal and current and not by_node:
            self._cluster.task_died(self, current)
        if self._link:
            self._link.end_by_peer()
        self._cluster.note(f"executor {self.key} ended: code {exit_code} signal {signal} current {current}")
        self.node.noticed_exit(self, exit_code, signal)


class SimNode:
    """An executor manager: as `flame.executor_manager`, on the real half of the node's link."""

    def __init__(self, cluster: Cluster, name: str, capacity: Resources, max_executors: int) -> None:
        self.name = name
        self.executors: dict[tuple[str, int], SimExecutor] = {}
        self._cluster = cluster
        self._capacity = capacity
        self._max_executors = max_executors
        self._starts = 0
        self.start()

    def start(self) -> None:
        """Start it anew: as another instance, without executors."""
        self._starts += 1
        self.dead = False
        self.unreachable_until_ns = 0
        self._link: SimLink | None = None
        identity = NodeIdentity(
            node=self.name,
            instance=f"{self.name}/{self._starts}",
            capacity=self._capacity,
            max_executors=self._max_executors,
        )
        self.half = NodeHalf(identity)
        self._connect()
        self._tick()

    def kill(self) -> None:
        """End it and with it its executors."""
        self.dead = True
        if self._link:
            self._link.end_by_peer()
        for process in list(self.executors.values()):
            process.exit(signal=SIGKILL)
        self.executors.clear()

    def stop(self) -> None:
        """End it in order: its executors first, so that it can still say that it was itself who ended them."""
        self.half.stop()
        for process in list(self.executors.values()):
            process.exit(signal=SIGKILL, by_node=True)
        self._later(100 * NS_PER_MS, self.kill)

    def isolate(self, until_ns: int) -> None:
        """Its own link does not come back before `until_ns`."""
        self.unreachable_until_ns = until_ns
        if self._link:
            self._link.cut()

    def _later(self, delay_ns: int, do: Callable[[], None]) -> None:
        start = self._starts
        self._cluster.time.after(delay_ns, lambda: do() if start == self._starts and not self.dead else None)

    def _tick(self) -> None:
        self._do(self.half.tick(self._cluster.time.now_ns))
        self._later(100 * NS_PER_MS, self._tick)

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
        try:
            self._do(self.half.received(message, self._cluster.time.now_ns))
        except FlameError as error:
            self._cluster.note(f"node {self.name}: {error.message}")
            link.end_by_peer()
            self.closed(link)

    def closed(self, link: SimLink) -> None:
        """The link is over."""
        if link is self._link and not self.dead:
            self._link = None
            self.half.disconnected()
            self._later(self._cluster.random.randrange(5, 300) * NS_PER_MS, self._connect)

    def _do(self, actions: "list[Message | Action]") -> None:
        random = self._cluster.random
        for action in actions:
            if isinstance(action, StartExecutor):
                start = action
                self._later(random.randrange(100_000, 10 * NS_PER_MS), lambda start=start: self._fork(start))  # type: ignore[misc]
            elif isinstance(action, KillExecutor):
                key = (action.executor, action.binding)
                grace_ns = action.grace_ms * NS_PER_MS if random.random() < 0.2 else 0
                self._later(grace_ns + random.randrange(10_000, NS_PER_MS), lambda key=key: self._kill(key))  # type: ignore[misc]
            elif self._link:
                if isinstance(action, JoinNode):
                    self._answer_for_executors()
                self._link.send_up(action)

    def _answer_for_executors(self) -> None:
        for process in self.executors.values():
            process.answered_for = process.answered_for or process.behind

    def _fork(self, start: StartExecutor) -> None:
        key = (start.bind.executor, start.bind.binding)
        if self._cluster.random.random() < 0.3 and self._cluster.start_fails():
            self._exited(key, None, 0, "it could not be forked")
            return
        process = self.executors[key] = SimExecutor(self._cluster, self, start)
        self._cluster.counts["starts"] += 1
        self.half.opened(*key, process.table, "log")
        for message in self.half.started(*key, 1):
            self._do([message])

    def _kill(self, key: tuple[str, int]) -> None:
        process = self.executors.get(key)
        if process:
            process.exit(signal=SIGKILL, by_node=True)

    def noticed_exit(self, process: SimExecutor, exit_code: int | None, signal: int) -> None:
        """A process has ended."""
        delay_ns = self._cluster.random.randrange(10_000, 5 * NS_PER_MS)
        self._later(delay_ns, lambda: self._exited(process.key, exit_code, signal, ""))

    def _exited(self, key: tuple[str, int], exit_code: int | None, signal: int, failure: str) -> None:
        process = self.executors.pop(key, None)
        if process is None or not process.table.entered:
            self._cluster.start_failed(self.half.executors[key].bind.session)
        now_ns = self._cluster.time.now_ns
        for message in self.half.exited(*key, now_ns, exit_code=exit_code, signal=signal, failure=failure):
            self._do([message])

"""Executors in simulation: the real half of the protocol, and a process whose main thread is a chain of callbacks."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Protocol

from flame.model.errors import Aborted, FailureRecord, FlameError
from flame.model.executor_messages import AcknowledgeReport, AssignTasks, TasksRetracted
from flame.model.messages import Message
from flame.protocol.executor import SMALL_OUTPUT_BYTES, ExecutorHalf
from flame.protocol.node import StartExecutor
from flame.protocol.runs import Run
from flame.protocol.shared_table import CURRENT, TABLE_BYTES, Phase, SharedTable
from flame.sim.history import RAISED, History, digest
from flame.sim.virtual import NS_PER_MS, RECONNECT_MS, End, Process, SimLink, VirtualTime
from flame.sim.workload import TaskKind, kind_of

SIGABRT = 6
SIGKILL = 9
_DISMISSED = 75


class Cluster(Protocol):
    """What executors need of the world around them."""

    time: VirtualTime
    random: Random
    counts: Counter[str]
    history: History
    tracing: bool

    def connect(self, peer: End) -> SimLink:
        """A new link to the session manager."""

    def note(self, text: str) -> None:
        """A line of the trace."""

    def bound(self, process: "SimExecutor") -> None:
        """A process is there."""

    def task_started(self, process: "SimExecutor", run: Run, task: int, task_input: bytes) -> int:
        """A task starts; returns how many times it was started before."""

    def start_fails(self) -> bool:
        """Whether a process fails to start now."""


class Host(Protocol):
    """What an executor needs of its node."""

    name: str
    unreachable_until_ns: int
    doubtful: dict[tuple[str, int], None]

    @property
    def lease_end_ns(self) -> int:
        """When the node's lease is over, as it stands in the node's page."""

    @property
    def hangs(self) -> bool:
        """Whether it stands still, or did until just now."""

    def noticed_exit(self, process: "SimExecutor", exit_code: int | None, signal: int) -> None:
        """A process has ended."""


class SimExecutor(Process):
    """A process bound to one session: as `flame.executor`, with a main thread that is a chain of callbacks.

    Attributes:
        dead: its process has ended.
        running: the task that runs, or 0; `died_of`: the one that ran when a signal ended the process.
    """

    def __init__(self, cluster: Cluster, node: Host, start: StartExecutor) -> None:
        super().__init__(cluster.time)
        bind = start.bind
        self.key = (bind.executor, bind.binding)
        self.session = bind.session
        self.node = node
        self.dead = False
        self.running = self.died_of = 0
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
        self._untold: set[int] | None = set()
        """What it holds, until a report is acknowledged: by then, an end between two tasks is charged to the first."""
        cluster.bound(self)
        self._phase(Phase.STARTING)
        self._connect()
        self._phase(Phase.WAITING)
        self._wait(self._enter_if_told)

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
        self._keep_account(message, answers)
        self._send(answers)
        self._notify()

    def _keep_account(self, message: Message, answers: list[Message]) -> None:
        """What the history is told of an end must not come from the table that the engine looks into."""
        untold = self._untold
        if untold is None or isinstance(message, AcknowledgeReport):
            self._untold = None
            return
        if isinstance(message, AssignTasks) and not self.table.sealed(message.attempt >> 32):
            untold.update(range(message.first, message.first + message.count))
        for answer in answers:
            for part in answer.ranges if isinstance(answer, TasksRetracted) else ():
                untold.difference_update(range(part.first, part.first + part.count))

    def _closed(self, link: SimLink) -> None:
        if link is self._link and not self.dead:
            self._link = None
            self.half.disconnected()
            self._notify()
            self._later(self._cluster.random.choice(RECONNECT_MS) * NS_PER_MS, self._connect)

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
        self._awake(delay_ns, lambda: None if self.dead else do())

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
        if half.active and now_ns >= self.node.lease_end_ns:
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
        if task >= self.half.limit[0] or now_ns >= self.node.lease_end_ns:
            self._wait(self._turn)
            return
        run.started_ns = now_ns
        self.running = task
        task_input = run.blob[run.offsets[place] : run.offsets[place + 1]]
        kind = kind_of(task_input)
        before = self._cluster.task_started(self, run, task, task_input)
        if kind.starve:
            self._starved = []
        aborts = kind.behavior == "abort" or (kind.behavior == "abort once" and not before)
        do = (lambda: self.exit(signal=SIGABRT)) if aborts else (lambda: self._finish(run, task, kind))
        self._later(1_000 + kind.duration_us * 1_000, do)

    def _finish(self, run: Run, task: int, kind: TaskKind) -> None:
        starved, self._starved = self._starved, None
        self.running = 0
        output = kind.output()
        if kind.behavior == "fail":
            output = FailureRecord("it raised").encode()
            run.failed.append(task)
        outcome = RAISED if kind.behavior == "fail" else digest(output)
        self._cluster.history.ended(self._cluster.time.now_ns, str(self.session), task, *self.key, outcome)
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
        self.died_of = self.running if signal else 0
        cause = "ended well" if exit_code == 0 else "its node killed it" if by_node else "its process died"
        now_ns = self._cluster.time.now_ns
        first, well = min(self._untold or (), default=0), exit_code == 0
        self._cluster.history.died(now_ns, *self.key, cause=cause, well=well, killed=by_node, charged=first)
        self._cluster.counts[f"executor: {cause}"] += 1
        if self._link:
            self._link.end_by_peer()
        if self._cluster.tracing:
            current = self.table.current
            self._cluster.note(f"executor {self.key} ended: code {exit_code} signal {signal} current {current}")
        self.node.noticed_exit(self, exit_code, signal)

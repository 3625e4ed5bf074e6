"""The session manager in simulation: the real core and pump on a store in memory, killed at any point of a turn."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from flame.core.control import invariants
from flame.core.control.effects import (
    Answer,
    DropExecutorLink,
    DropNodeLink,
    Effect,
    LoadInputs,
    PurgeRows,
    ReadSegments,
    SendToClient,
    SendToExecutor,
    SendToNode,
    TellWatch,
)
from flame.core.control.entities import Settings
from flame.core.control.events import (
    ApplicationPutRequested,
    ClientLost,
    ClientSaid,
    Event,
    ExecutorLost,
    ExecutorSaid,
    InputsLoaded,
    NodeLost,
    NodeSaid,
    RowsPurged,
    SegmentsRead,
    SessionCloseRequested,
    SessionDeleteRequested,
    TimeReached,
)
from flame.core.control.recovery import recover
from flame.core.control.state import Batch, State
from flame.model.limits import BLOCK_TASKS, RECONNECT_GRACE_MS
from flame.model.messages import Call, Hello, Message, Refused, Reply, Role, Welcome
from flame.model.specs import ApplicationSpec
from flame.protocol.peers import PeerEnd
from flame.session_manager.pump import Pump
from flame.sim.virtual import NS_PER_MS, SimLink, VirtualTime
from flame.stores.memory import MemoryStore

CLOSE = "/flame.v1.Frontend/CloseSession"
DELETE = "/flame.v1.Frontend/DeleteSession"
POINTS = ("before commit", "after commit", "between effects")
"""Where in a turn it can be killed, beside between two turns."""


class SimSessionManager:
    """A session manager that can be killed and started again on its store.

    Args:
        spec: of the one application, `sim`.
        note: takes lines of the trace.

    Attributes:
        kill_at: where in one of the next turns it is to be killed, or empty.
        silent: executors that the last start stopped waiting for: they may have to be run beside.
        counts: how often what happened.
    """

    def __init__(
        self,
        time: VirtualTime,
        random: Random,
        settings: Settings,
        spec: ApplicationSpec,
        note: Callable[[str], None],
    ) -> None:
        self._time = time
        self._random = random
        self._settings = settings
        self._spec = spec
        self._note = note
        self.store = MemoryStore()
        self.store.store_id = settings.store_id
        self.state: State | None = None
        self.kill_at = ""
        self.silent: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.slowest_commit_ns = 2 * NS_PER_MS
        self._pump: Pump | None = None
        self._life = 0
        self._links: dict[int, SimLink] = {}
        self._ends: dict[int, PeerEnd] = {}
        self._calls: dict[int, tuple[int, int]] = {}
        self._requests = 0
        self._busy = False
        self._effects: dict[type, Callable[[Any], None]] = {
            SendToClient: self._send,
            SendToExecutor: self._send,
            SendToNode: self._send,
            DropExecutorLink: self._drop,
            DropNodeLink: self._drop,
            Answer: self._answer,
            TellWatch: lambda effect: None,
            LoadInputs: self._load_inputs,
            ReadSegments: self._read_segments,
            PurgeRows: self._purge_rows,
        }

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.state is not None

    def start(self) -> None:
        """Start it on its store."""
        self._life += 1
        epoch = self.store.open()
        self.state = recover(self.store.recover(), self._settings, epoch, self._time.now_ms)
        self._pump = Pump(self.state)
        self._busy = False
        self._note(f"manager starts, epoch {epoch}")
        if "sim" not in self.state.applications:
            self.offer(ApplicationPutRequested(request=0, name="sim", spec=self._spec))
        self.offer(TimeReached())
        self._later(RECONNECT_GRACE_MS * NS_PER_MS, self._look_who_is_silent)

    def kill(self) -> None:
        """End it at once: what is not committed is lost."""
        if self.state is None:
            return
        self._note("manager dies")
        self.state = self._pump = None
        self.kill_at = ""
        self._life += 1
        for link in self._links.values():
            link.end_by_server()
        self._links.clear()
        self._ends.clear()
        self._calls.clear()

    def has(self, link: SimLink) -> bool:
        """Whether this link is one of the present life."""
        return link.number in self._links

    def connected(self, link: SimLink) -> None:
        """A peer connects; it is refused if nobody is there."""
        if self.state is None:
            link.end_by_server()
            return
        self._links[link.number] = link
        self._ends[link.number] = PeerEnd(self._welcome)

    def received(self, link: SimLink, message: Message) -> None:
        """A message of a peer."""
        end = self._ends.get(link.number)
        if end is None:
            return
        answer = end.greet(message) if end.role is None else end.check(message)
        if answer is not None:
            link.send_down(answer)
            if isinstance(answer, Refused):
                self._close(link.number)
        elif end.role is Role.CLIENT and isinstance(message, Call):
            self._call(link.number, message)
        elif end.role is Role.CLIENT:
            self.offer(ClientSaid(link.number, message))  # type: ignore[arg-type]
        elif end.role is Role.EXECUTOR:
            self.offer(ExecutorSaid(end.executor, end.binding, link.number, message))  # type: ignore[arg-type]
        else:
            self.offer(NodeSaid(end.node, link.number, message))  # type: ignore[arg-type]

    def closed(self, link: SimLink) -> None:
        """A peer's link is over."""
        if link.number in self._links:
            self._close(link.number)

    def offer(self, event: Event) -> None:
        """Give the core an event."""
        if self._pump is not None:
            self._pump.offer(event)
            self._schedule()

    # --- turns -------------------------------------------------------------------------------------------------------

    def _later(self, delay_ns: int, do: Callable[[], None]) -> None:
        """Do something later in this life."""
        life = self._life
        self._time.after(delay_ns, lambda: do() if life == self._life else None)

    def _schedule(self) -> None:
        if not self._busy:
            self._busy = True
            self._later(self._random.randrange(1_000, 50_000), self._turn)

    def _turn(self) -> None:
        assert self._pump is not None and self.state is not None
        batch = self._pump.turn(self._time.now_ms)
        invariants.check(self.state)
        invariants.check_settled(self.state, self._time.now_ms)
        self._do(batch.now)
        if batch.writes:
            self._later(self._random.randrange(10_000, self.slowest_commit_ns), lambda: self._commit(batch))
        else:
            self._finish(batch)

    def _commit(self, batch: Batch) -> None:
        if self._killed_at("before commit"):
            return
        assert self.state is not None
        self.store.commit(self.state.epoch, batch.writes)
        self.counts["commits"] += 1
        for write in batch.writes:
            self._note(f"stored {_brief(write)}")
        if not self._killed_at("after commit"):
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        assert self._pump is not None
        self._pump.committed(batch.turn)
        after = batch.after
        if self.kill_at == "between effects" and len(after) > 1:
            self._do(after[: self._random.randrange(1, len(after))])
            self._killed_at("between effects")
            return
        self._do(after)
        self._busy = False
        if batch.wake_at_ms is not None:
            delay_ms = max(0, batch.wake_at_ms - self._time.now_ms)
            self._later(delay_ms * NS_PER_MS, lambda: self.offer(TimeReached()))
        if len(self._pump):
            self._schedule()

    def _killed_at(self, point: str) -> bool:
        if self.kill_at != point:
            return False
        self.counts[f"killed {point}"] += 1
        self.kill()
        return True

    def _look_who_is_silent(self) -> None:
        """Executors whose node is not back within the grace may be replaced: the core has to give up on them."""
        assert self.state is not None
        for executor in self.state.executors.values():
            if not executor.node.link:
                self.silent[executor.id] = None

    # --- effects -----------------------------------------------------------------------------------------------------

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.counts[type(effect).__name__] += 1
            self._effects[type(effect)](effect)

    def _send(self, effect: SendToClient | SendToExecutor | SendToNode) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            self.counts[type(effect.message).__name__] += 1
            self._note(f"to {link.number}: {_brief(effect.message)}")
            link.send_down(effect.message)

    def _drop(self, effect: DropExecutorLink | DropNodeLink) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            self._note(f"drops {link.number}: {effect.error.message}")
            link.send_down(Refused(effect.error))
            self._close(link.number)

    def _close(self, number: int) -> None:
        end, link = self._ends.pop(number), self._links.pop(number)
        link.end_by_server()
        if end.executor:
            self.offer(ExecutorLost(end.executor, end.binding, number))
        elif end.node:
            self.offer(NodeLost(end.node, number))
        elif end.role is Role.CLIENT:
            self.offer(ClientLost(number))

    def _call(self, number: int, call: Call) -> None:
        self._requests += 1
        self._calls[self._requests] = (number, call.id)
        kind = SessionCloseRequested if call.method == CLOSE else SessionDeleteRequested
        self.offer(kind(request=self._requests, name=call.payload.decode()))

    def _answer(self, effect: Answer) -> None:
        number, call = self._calls.pop(effect.request, (0, 0))
        if number in self._links:
            self._links[number].send_down(Reply(id=call, error=effect.error))

    def _load_inputs(self, effect: LoadInputs) -> None:
        lengths, blob = self.store.read_inputs(effect.session, effect.first, effect.count)
        self.offer(InputsLoaded(effect.session, effect.first, effect.count, lengths, blob))

    def _read_segments(self, effect: ReadSegments) -> None:
        block = range(effect.block, effect.block + BLOCK_TASKS) if effect.block else None
        segments = self.store.read_segments(effect.session, effect.after, effect.limit_bytes, block)
        self.offer(SegmentsRead(effect.link, effect.attachment, segments, effect.through))

    def _purge_rows(self, effect: PurgeRows) -> None:
        self.offer(RowsPurged(self.store.purge(200_000)))

    def _welcome(self, hello: Hello) -> Welcome:
        assert self.state is not None
        return Welcome(store_id=self.store.store_id, epoch=self.state.epoch, max_task_bytes=1 << 22)


def _brief(value: Any) -> str:
    """A message or write on one line, without payloads."""
    record = getattr(value, "record", value)
    hidden = ("lengths", "blob", "spec", "common_data", "payload", "error")
    fields = [f"{name}={getattr(record, name)!r}" for name in record.__struct_fields__ if name not in hidden]
    return f"{type(value).__name__} {' '.join(fields)}"

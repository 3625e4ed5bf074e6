"""The session manager in simulation: the real core and pump on a simulated disk, killed at any point of a turn."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from time import thread_time
from typing import TYPE_CHECKING, Any

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
    SpaceMeasured,
    TimeReached,
)
from flame.core.control.recovery import recover
from flame.core.control.state import Batch, State
from flame.model.errors import Internal, Rejection, ResourceExhausted
from flame.model.limits import BLOCK_TASKS, RECONNECT_GRACE_MS
from flame.model.messages import Call, Hello, ManagerMessage, Message, Refused, Reply, Role, Welcome
from flame.model.records import DeleteBinding
from flame.model.specs import ApplicationSpec
from flame.protocol.peers import ClientLinks, PeerEnd
from flame.session_manager.pump import Pump
from flame.sim.checks import Checks
from flame.sim.kills import Aim
from flame.sim.store import SimDisk, SimStore
from flame.sim.stored import became
from flame.sim.story import brief
from flame.sim.virtual import NS_PER_MS, Process, SimLink, VirtualTime

if TYPE_CHECKING:
    from flame.sim.unary import Frontend

CLOSE = "/flame.v1.Frontend/CloseSession"
DELETE = "/flame.v1.Frontend/DeleteSession"
NO_SPACE = "refused for lack of space"
"""So often the disk was too full for what somebody asked, or for a commit."""
_GATHER_NS = 8 * NS_PER_MS
_SPACE_MS = 200


class SimSessionManager(Process):
    """A session manager that can be killed and started again on its disk.

    Args:
        spec: of the one application, `sim`.
        note: takes lines of the trace; None where nobody wants them.
        died: called when it has ended, however.
        given_up: called with an executor whose binding is over.
        grace_is_over: called when a start stops waiting for those who were there before: they may be given up.

    Attributes:
        aim: where it is to be killed next.
        break_before: kinds of messages: where the next one of a kind is to be sent, its link breaks instead.
        counts: how often what happened.
        links: those of its peers, by number.
        life: how often it was started and has ended.
        events: how many events the core has handled, in `core_s` seconds of processor time of its own.
        wall_offset_ms: by how much the wall clock is wrong.
        unary: who waits for answers of unary calls.
    """

    def __init__(
        self,
        time: VirtualTime,
        random: Random,
        settings: Settings,
        spec: ApplicationSpec,
        note: Callable[[str], None] | None,
        died: Callable[[], None] = lambda: None,
        grace_is_over: Callable[[], None] = lambda: None,
        given_up: Callable[[str], None] = lambda executor: None,
    ) -> None:
        super().__init__(time)
        self._random = random
        self._settings = settings
        self._spec = spec
        self._trace = note
        self._died = died
        self._grace_is_over = grace_is_over
        self._given_up = given_up
        self.disk = SimDisk(settings.store_id)
        self.store = SimStore(self.disk)
        self.state: State | None = None
        self.aim = Aim()
        self.break_before: list[type[ManagerMessage]] = []
        self.counts: Counter[str] = Counter()
        self.events = 0
        self.core_s = 0.0
        self.wall_offset_ms = 0
        self.unary: Frontend | None = None
        self._clock_ms = 0
        self._wake_at_ms: int | None = None
        self.slowest_commit_ns = 2 * NS_PER_MS
        self._pump: Pump | None = None
        self._checks = Checks(settings)
        self.life = 0
        self.links: dict[int, SimLink] = {}
        self._ends: dict[int, PeerEnd] = {}
        self._clients: ClientLinks[int] = ClientLinks()
        self._lazy: dict[int, list[SendToClient | SendToExecutor]] = {}
        self._calls: dict[int, tuple[int, int]] = {}
        self._requests = 0
        self._loaded_bytes = 0
        """Inputs read back that the core may not have heard of: they alone may exceed the bound of what it keeps."""
        self._busy = self._put_off = False
        self._effects: dict[type, Callable[[Any], None]] = {
            SendToClient: self._send,
            SendToExecutor: self._send,
            SendToNode: self._send_at_once,
            DropExecutorLink: self._drop,
            DropNodeLink: self._drop,
            Answer: self._answer,
            TellWatch: self._tell_watch,
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
        self.life += 1
        self.paused_until_ns = 0
        try:
            epoch = self.store.open()
        except Internal:
            self.counts["ended by its disk"] += 1
            self._crash()
            self._died()
            return
        if self.aim.hit("after open"):
            self.counts["killed after open"] += 1
            self._crash()
            self._died()
            return
        snapshot = self.store.recover()
        # As the driver's clock: never back behind what is stored, and then as the monotonic one.
        self._clock_ms = max(snapshot.time_ms - self._time.now_ms, self.wall_offset_ms)
        self.state = recover(snapshot, self._settings, epoch, self.now_ms)
        self._pump = Pump(self.state)
        self._checks = Checks(self._settings)
        self._busy = self._put_off = False
        self._wake_at_ms = None
        self._note(f"manager starts, epoch {epoch}")
        if self.unary is not None:
            self.unary.started(snapshot)
        if self._killed_at("in recovery"):
            return
        if self.aim.at == "in grace":
            self._later(self._random.randrange(RECONNECT_GRACE_MS * NS_PER_MS), lambda: self._killed_at("in grace"))
        if "sim" not in self.state.applications:
            self.offer(ApplicationPutRequested(request=0, name="sim", spec=self._spec))
        self.offer(TimeReached())
        self._measure_space()
        grace_ns = RECONNECT_GRACE_MS * NS_PER_MS - self._time.now_ns % NS_PER_MS
        self._later(grace_ns, self._grace_is_over)

    def kill(self) -> None:
        """End it at once: what is not committed is lost."""
        if self.state is None:
            return
        self._crash()
        self.state = self._pump = None
        self.life += 1
        self.paused_until_ns = 0
        for link in self.links.values():
            link.end_by_server()
        self.links.clear()
        self._ends.clear()
        self._clients = ClientLinks()
        self._lazy.clear()
        self._calls.clear()
        if self.unary is not None:
            self.unary.ended()
        self._died()

    def _crash(self) -> None:
        self.aim.ended()
        crash = self.disk.crash(self._random)
        self.counts[f"disk: {crash}"] += 1
        self._note(f"manager dies, what was not synced is {crash}")

    @property
    def now_ms(self) -> int:
        """The core's time."""
        return self._time.now_ms + self._clock_ms

    def connected(self, link: SimLink) -> None:
        """A peer connects; it is refused if nobody is there."""
        if self.state is None:
            link.end_by_server()
            return
        self.links[link.number] = link
        self._ends[link.number] = PeerEnd(self._welcome)

    def received(self, link: SimLink, message: Message) -> None:
        """A message of a peer."""
        end = self._ends.get(link.number)
        if end is None:
            return
        self._checks.memory.received(link.number, message)
        answer = end.greet(message) if end.role is None else end.check(message)
        if answer is not None:
            link.send_down(answer)
            if isinstance(answer, Refused):
                self._close(link.number)
            elif former := self._clients.came(end.client, link.number, link.number):
                self.counts["former connection of a client closed"] += 1
                self._close(former)
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
        if link.number in self.links:
            self._close(link.number)

    def offer(self, event: Event) -> None:
        """Give the core an event."""
        pump = self._pump
        if pump is None:
            return
        self.counts[f"event {type(event).__name__}"] += 1
        self.events += 1
        pump.offer(event)
        if not pump.can_wait(event):
            self._schedule()
        elif not self._put_off:
            self._put_off = True
            self._later(_GATHER_NS, self._schedule)

    def next_request(self) -> int:
        """A number for a request or a watch."""
        self._requests += 1
        return self._requests

    # --- turns -------------------------------------------------------------------------------------------------------

    def _later(self, delay_ns: int, do: Callable[[], object]) -> None:
        """Do something later in this life."""
        life = self.life

        def due() -> None:
            if life == self.life:
                do()

        self._awake(delay_ns, due)

    def _note(self, text: str) -> None:
        if self._trace is not None:
            self._trace(text)

    def _schedule(self) -> None:
        if not self._busy:
            self._busy = True
            self._later(self._random.randrange(1_000, 50_000), self._turn)

    def _turn(self) -> None:
        assert self._pump is not None and self.state is not None
        self._put_off = False
        most_bytes = max(self.state.resident_bytes, self._settings.resident_input_bytes) + self._loaded_bytes
        began_s = thread_time()
        batch = self._pump.turn(self.now_ms)
        self.core_s += thread_time() - began_s
        self.counts["turns"] += 1
        self._loaded_bytes *= bool(len(self._pump))
        assert self.state.resident_bytes <= most_bytes, f"{self.state.resident_bytes} resident bytes, of {most_bytes}"
        self._checks.after_turn(self.state, self._pump, self.now_ms)
        if self.unary is not None and not self._pump:
            self.unary.check(self.state)
        self._do(batch.now)
        if self.aim.kinds:
            self.aim.look_at(batch.writes, self._random)
        if not batch.writes:
            self._finish(batch)
        elif not self._killed_at("before commit"):
            self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        assert self.state is not None
        try:
            self.store.begin(self.state.epoch, batch.writes)
        except ResourceExhausted:
            # As the driver: of this batch nothing is known, only a new start can tell.
            self.counts[NO_SPACE] += 1
            self.kill()
            return
        slowest_ns = self.aim.slowest_ns(self.slowest_commit_ns)
        self._later(self._random.randrange(10_000, slowest_ns), lambda: self._commit(batch))

    def _commit(self, batch: Batch) -> None:
        if self._killed_at("in commit") or self._killed_at("in its first commit"):
            return
        try:
            self.store.finish()
        except Internal:
            self.counts["ended by its disk"] += 1
            self.kill()
            return
        self.counts["commits"] += 1
        self.counts.update(became(batch.writes))
        for write in batch.writes:
            if isinstance(write, DeleteBinding):
                self._given_up(write.executor)
        if self.unary is not None:
            self.unary.stored(batch)
        if self._trace is not None:
            for write in batch.writes:
                self._note(f"stored {brief(write)}")
        if not self._killed_at("after commit"):
            self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        assert self._pump is not None
        self._pump.committed(batch.turn)
        after = batch.after
        if self.aim.at == "between effects" and len(after) > 1:
            self._do(after[: self._random.randrange(1, len(after))])
            self._killed_at("between effects")
            return
        self._do(after)
        if self._pump is None:
            return
        self._busy = False
        self._set_wake(batch.wake_at_ms)
        if len(self._pump):
            self._schedule()

    def _set_wake(self, wake_at_ms: int | None) -> None:
        if wake_at_ms != self._wake_at_ms:
            self._wake_at_ms = wake_at_ms
            if wake_at_ms is not None:
                delay_ms = max(0, wake_at_ms - self.now_ms)
                self._later(delay_ms * NS_PER_MS, lambda: self._wake_up(wake_at_ms))

    def _wake_up(self, wake_at_ms: int) -> None:
        if wake_at_ms == self._wake_at_ms:
            self._wake_at_ms = None
            self.offer(TimeReached())

    def _killed_at(self, point: str) -> bool:
        count = self.aim.hit(point)
        if not count:
            return False
        self.counts[count] += 1
        self.kill()
        return True

    def _measure_space(self) -> None:
        free_bytes = self.store.free_bytes()
        if self.state is not None and free_bytes != self.state.free_bytes:
            self.offer(SpaceMeasured(free_bytes))
        self._later(_SPACE_MS * NS_PER_MS, self._measure_space)

    # --- effects -----------------------------------------------------------------------------------------------------

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.counts[type(effect).__name__] += 1
            self._effects[type(effect)](effect)

    def _send(self, effect: SendToClient | SendToExecutor) -> None:
        """As the driver: what is lazy goes after all else, or with the next message on its link."""
        if effect.lazy:
            self.counts["lazy"] += 1
            if not self._lazy:
                self._later(self._random.randrange(1_000, 50_000), self._send_lazy)
            self._lazy.setdefault(effect.link, []).append(effect)
            return
        for lazy in self._lazy.pop(effect.link, ()):
            self._send_at_once(lazy)
        self._send_at_once(effect)

    def _send_lazy(self) -> None:
        lazy, self._lazy = self._lazy, {}
        for effects in lazy.values():
            for effect in effects:
                self._send_at_once(effect)

    def _send_at_once(self, effect: SendToClient | SendToExecutor | SendToNode) -> None:
        link = self.links.get(effect.link)
        if link is not None:
            self.counts[type(effect.message).__name__] += 1
            if self._trace is not None:
                whom = getattr(effect, "executor", "") or getattr(effect, "node", "client")
                self._note(f"to {link.number} ({whom}): {brief(effect.message)}")
            self._put(link, effect.message)

    def _put(self, link: SimLink, message: ManagerMessage) -> None:
        kind = type(message)
        self._count_refusal(getattr(message, "error", None))
        if kind in self.break_before:
            self.break_before.remove(kind)
            self.counts[f"broke before {kind.__name__}"] += 1
            link.cut()
        else:
            self._checks.memory.sent(link.number, message)
            link.send_down(message)

    def _count_refusal(self, error: Rejection | None) -> None:
        self.counts[NO_SPACE] += error is not None and error.code == ResourceExhausted.code

    def _drop(self, effect: DropExecutorLink | DropNodeLink) -> None:
        link = self.links.get(effect.link)
        if link is not None:
            self._note(f"drops {link.number}: {effect.error.message}")
            link.send_down(Refused(effect.error))
            self._close(link.number)

    def _close(self, number: int) -> None:
        end, link = self._ends.pop(number), self.links.pop(number)
        link.end_by_server()
        self._checks.memory.ended(number)
        self._clients.left(end.client, number)
        if end.executor:
            self.offer(ExecutorLost(end.executor, end.binding, number))
        elif end.node:
            self.offer(NodeLost(end.node, number))
        elif end.role is Role.CLIENT:
            self.offer(ClientLost(number))

    def _call(self, number: int, call: Call) -> None:
        request = self.next_request()
        self._calls[request] = (number, call.id)
        kind = SessionCloseRequested if call.method == CLOSE else SessionDeleteRequested
        self.offer(kind(request=request, name=call.payload.decode()))

    def _tell_watch(self, effect: TellWatch) -> None:
        if self.unary is not None:
            self.unary.tell(effect)

    def _answer(self, effect: Answer) -> None:
        if self.unary is not None:
            self.unary.answer(effect)
            self._count_refusal(effect.error)
        number, call = self._calls.pop(effect.request, (0, 0))
        if number in self.links:
            self._put(self.links[number], Reply(id=call, error=effect.error))

    def _load_inputs(self, effect: LoadInputs) -> None:
        lengths, blob = self.store.read_inputs(effect.session, effect.first, effect.count)
        self._loaded_bytes += len(blob)
        self.offer(InputsLoaded(effect.session, effect.first, effect.count, lengths, blob))

    def _read_segments(self, effect: ReadSegments) -> None:
        block = range(effect.block, effect.block + BLOCK_TASKS) if effect.block else None
        segments = self.store.read_segments(effect.session, effect.after, effect.limit_bytes, block)
        self.offer(SegmentsRead(effect.link, effect.attachment, segments, effect.through))

    def _purge_rows(self, effect: PurgeRows) -> None:
        try:
            more = self.store.purge(200_000)
        except Internal:
            self.counts["ended by its disk"] += 1
            self.kill()
            return
        self.offer(RowsPurged(more))

    def _welcome(self, hello: Hello) -> Welcome:
        assert self.state is not None
        return Welcome(
            store_id=self.store.store_id, epoch=self.state.epoch, max_task_bytes=self._settings.max_task_bytes
        )

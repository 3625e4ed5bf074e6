"""Unary clients in simulation: tasks made one by one and watched, as the frontend does it for any client of gRPC."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Protocol

from flame.core.control.effects import Answer, TellWatch
from flame.core.control.events import (
    Event,
    SessionCloseRequested,
    SessionDeleteRequested,
    TaskCreateRequested,
    TaskWatchEnded,
    TaskWatchRequested,
)
from flame.core.control.state import Batch, State
from flame.model.errors import TooLarge
from flame.model.records import PutSegment, SegmentRecord, Snapshot
from flame.sim.clients import TOO_LARGE, stored_outcomes, too_large
from flame.sim.history import History, digest
from flame.sim.store import SimStore
from flame.sim.virtual import NS_PER_MS, VirtualTime
from flame.sim.workload import TaskKind

_SOMEBODY = "a unary client"
_LONGEST_NS = 5 * NS_PER_MS
_AGAIN_MS = 200
_GIVE_UP_RATE = 0.2


class SessionManager(Protocol):
    """What unary clients need of the session manager."""

    state: State | None
    store: SimStore
    life: int

    def offer(self, event: Event) -> None:
        """Give the core an event."""

    def next_request(self) -> int:
        """A number for a request or a watch."""


class Cluster(Protocol):
    """What unary clients need of the world around them."""

    time: VirtualTime
    random: Random
    counts: Counter[str]
    history: History

    def make_kind(self, *, alone: bool = False) -> TaskKind:
        """What the next task is to do; `alone` if no other suffers where it is refused."""


class Frontend:
    """Who waits for which answer of a session manager, and which tasks it has made.

    A task whose creator was never answered may be there all the same. The history hears of each when it is durable:
    from the commit that stores it, or, where the session manager died in that, from what the next one finds.

    Args:
        cluster: the world, with the history.
        session_manager: whose.
    """

    def __init__(self, cluster: Cluster, session_manager: SessionManager) -> None:
        self._cluster = cluster
        self._session_manager = session_manager
        self._creates: dict[int, tuple[bytes, Callable[[Answer | None], None]]] = {}
        self._ends: dict[int, Callable[[Answer | None], None]] = {}
        self._watches: dict[int, Callable[[TellWatch | None], None]] = {}
        self._inputs: set[int] = set()
        self._durable: dict[int, int] = {}
        """The last segment that is durable, by session."""
        self._next: dict[int, int] = {}
        """The first task of the session manager's own block that the history has not heard of, by session."""

    def create(self, session: str, task_input: bytes, answered: Callable[[Answer | None], None]) -> None:
        """Create a task; `answered` with None where the session manager ended before it could say anything."""
        request = self._session_manager.next_request()
        if self._session_manager.state is None:
            self._soon(lambda: answered(None))
            return
        self._creates[request] = (task_input, answered)
        self._inputs.add(digest(task_input))
        self._session_manager.offer(TaskCreateRequested(request=request, session=session, input=task_input))

    def close(self, session: str, answered: Callable[[Answer | None], None]) -> None:
        """Close a session; `answered` as for `create`."""
        request = self._session_manager.next_request()
        self._ask(SessionCloseRequested(request=request, name=session), request, answered)

    def delete(self, session: str, answered: Callable[[Answer | None], None]) -> None:
        """Delete a session; `answered` as for `create`."""
        request = self._session_manager.next_request()
        self._ask(SessionDeleteRequested(request=request, name=session), request, answered)

    def _ask(self, event: Event, request: int, answered: Callable[[Answer | None], None]) -> None:
        if self._session_manager.state is None:
            self._soon(lambda: answered(None))
            return
        self._ends[request] = answered
        self._session_manager.offer(event)

    def watch(self, session: str, task: int, told: Callable[[TellWatch | None], None]) -> int:
        """Watch a task; `told` with None when the session manager ended."""
        watch = self._session_manager.next_request()
        if self._session_manager.state is None:
            self._soon(lambda: told(None))
            return watch
        self._watches[watch] = told
        self._session_manager.offer(TaskWatchRequested(watch=watch, session=session, task=task))
        return watch

    def unwatch(self, watch: int) -> None:
        """Watch it no more."""
        if self._watches.pop(watch, None) is not None:
            self._session_manager.offer(TaskWatchEnded(watch))

    def outcome(self, session: int, task: int) -> SegmentRecord | None:
        """The segment that has the outcome of a task, where that is durable and the session is still there."""
        if not self.has(session):
            return None
        segment = self._session_manager.store.read_outcome(session, task)
        return segment if segment is not None and segment.sequence <= self._durable.get(session, 0) else None

    def has(self, session: int) -> bool:
        """Whether the session is still there."""
        state = self._session_manager.state
        return state is not None and session in state.sessions

    # --- what the session manager says -------------------------------------------------------------------------------

    def answer(self, effect: Answer) -> None:
        """A request is answered."""
        answered = self._ends.pop(effect.request, None)
        if answered is None:
            _, answered = self._creates.pop(effect.request, (b"", None))
        if answered is not None:
            self._deliver(lambda: answered(effect), lambda: answered(None))

    def tell(self, effect: TellWatch) -> None:
        """A watched task has changed."""
        told = self._watches.get(effect.watch)
        if effect.last:
            self._watches.pop(effect.watch, None)
        if told is not None:
            self._deliver(lambda: told(effect), lambda: told(None) if effect.last else None)

    def _deliver(self, do: Callable[[], None], or_else: Callable[[], None]) -> None:
        """What is on its way when the session manager ends does not arrive."""
        life = self._session_manager.life
        self._soon(lambda: do() if self._session_manager.life == life else or_else())

    def _soon(self, do: Callable[[], None]) -> None:
        self._cluster.time.after(self._cluster.random.randrange(1_000, _LONGEST_NS), do)

    def stored(self, batch: Batch) -> None:
        """A batch is durable."""
        for write in batch.writes:
            if isinstance(write, PutSegment):
                self._durable[write.record.session] = write.record.sequence
        for effect in batch.after:
            if isinstance(effect, Answer) and effect.task:
                self._made(effect.session, effect.task, self._creates[effect.request][0])

    def started(self, snapshot: Snapshot) -> None:
        """A session manager has started on what it found: tasks may be there of which nobody was told."""
        self._cluster.history.promises.found(self._cluster.time.now_ns, snapshot)
        state = self._session_manager.state
        for session in state.sessions.values() if state is not None else ():
            self._durable[session.number] = session.last_sequence
            block = session.own_block
            if block is None:
                continue
            number = session.record.number
            for task in range(self._next.get(number, block.first), block.next_id):
                _, task_input = self._session_manager.store.read_inputs(number, task, 1)
                assert digest(task_input) in self._inputs, f"nobody asked for task {task} of session {number}"
                self._made(number, task, task_input)

    def _made(self, session: int, task: int, task_input: bytes) -> None:
        self._next[session] = task + 1
        if too_large([task_input]):  # nobody may ever hear of it
            return
        history = self._cluster.history
        history.submitted(self._cluster.time.now_ns, str(session), _SOMEBODY, task, [digest(task_input)])

    def check(self, state: State) -> None:
        """Nobody is watching who has gone away; once the session manager has taken in all it was told."""
        for watch, (session, task) in state.watches.items():
            assert watch in self._watches, f"session {session.number}, task {task}: watch {watch} is over, and not gone"

    def ended(self) -> None:
        """The session manager has ended: whoever waits is told nothing more."""
        creates = [answered for _, answered in self._creates.values()]
        waiting = [*creates, *self._ends.values(), *self._watches.values()]
        self._creates.clear()
        self._ends.clear()
        self._watches.clear()
        for told in waiting:
            self._soon(lambda told=told: told(None))  # type: ignore[misc]


class UnaryClient:
    """Creates tasks in a session, a few at a time, and watches each until it has its outcome.

    Args:
        cluster: the world.
        frontend: of the session manager.
        name, number: of the session.
        tasks: how many it creates.
        pause_ms: the longest pause between two.
    """

    def __init__(
        self, cluster: Cluster, frontend: Frontend, name: str, number: int, key: str, *, tasks: int, pause_ms: int
    ) -> None:
        self.key = key
        self._cluster = cluster
        self._frontend = frontend
        self._name = name
        self._number = number
        self._left = tasks
        self._pause_ms = pause_ms
        self._unanswered = 0
        self._watched: dict[int, int] = {}
        self._watches = 0
        self._later(pause_ms, self._create)

    @property
    def done(self) -> bool:
        """Whether it has created all and heard what became of them."""
        return not (self._left or self._unanswered or self._watched)

    def __str__(self) -> str:
        return f"{self.key}: {self._left} to create, {self._unanswered} unanswered, watches {list(self._watched)[:9]}"

    def _later(self, longest_ms: int, do: Callable[[], None]) -> None:
        self._cluster.time.after(self._cluster.random.randrange(1, longest_ms * NS_PER_MS + 1), do)

    def _create(self) -> None:
        self._left -= 1
        self._unanswered += 1
        task_input = self._cluster.make_kind(alone=True).input()
        over = bool(too_large([task_input]))
        self._frontend.create(self._name, task_input, lambda answer: self._answered(answer, over))
        if self._left:
            self._later(self._pause_ms, self._create)

    def _answered(self, answer: Answer | None, over: bool) -> None:
        self._unanswered -= 1
        if answer is not None and answer.error is not None and answer.error.code == TooLarge.code:
            assert over, f"{self.key}: {answer.error.message}, and it was not"
            self._cluster.counts[f"{TOO_LARGE}, alone"] += 1
        if answer is None or answer.error is not None or answer.session != self._number:
            return
        self._cluster.history.acknowledged(self._cluster.time.now_ns, str(self._number), self.key, answer.task, 1)
        self._watch(answer.task)

    def _watch(self, task: int) -> None:
        """Watch a task, or watch it anew: only the last watch of a task counts."""
        self._watches += 1
        serial = self._watched[task] = self._watches
        watch = self._frontend.watch(self._name, task, lambda told: self._told(task, serial, told))
        if self._cluster.random.random() < _GIVE_UP_RATE:

            def look_again() -> None:
                if self._watched.get(task) == serial:
                    self._frontend.unwatch(watch)
                    self._watch(task)

            self._later(_AGAIN_MS, look_again)

    def _told(self, task: int, serial: int, told: TellWatch | None) -> None:
        if self._watched.get(task) != serial:
            return
        if told is None:
            self._later(_AGAIN_MS, lambda: self._watch(task) if self._watched.get(task) == serial else None)
        elif told.last:
            del self._watched[task]
            if told.error is None:
                self._cluster.history.promises.told_ended(self._cluster.time.now_ns, str(told.session), task)
            self._look(task, told)

    def _look(self, task: int, told: TellWatch) -> None:
        """As `GetTask`: what was told to be over has an outcome, unless somebody has the session deleted."""
        history, now_ns, name = self._cluster.history, self._cluster.time.now_ns, str(self._number)
        segment = self._frontend.outcome(self._number, task) if told.session == self._number else None
        if segment is not None:
            history.saw(now_ns, name, self.key, task, [stored_outcomes(segment)[task - segment.first]])
            return
        history.refused(now_ns, name, self.key, task, 1)
        if told.error is None and self._frontend.has(told.session):
            history.promises.unfinished(now_ns, str(told.session), task)

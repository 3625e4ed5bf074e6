"""What is always true of the state between turns; checked after every turn in tests and simulation."""

from collections.abc import Mapping
from enum import IntEnum
from itertools import islice
from operator import attrgetter
from typing import TypeVar

from flame.core.control.entities import Binding, Session
from flame.core.control.placement import view_of
from flame.core.control.queue import Chunk, Span
from flame.core.control.state import State
from flame.core.control.transitions import EXECUTORS, NODES, SESSIONS, NodeLife, Table, title
from flame.core.scheduling.plan import plan
from flame.model.states import ExecutorState, SessionState

Name = TypeVar("Name", int, str)
S = TypeVar("S", bound=IntEnum)


_EMPTY_AT_THE_END = (
    *("unfinished", "bindings", "cancels", "watches", "deaths", "host_ends", "unaccounted", "postponed", "loading"),
    *("deleting", "stirred"),
)


def check(state: State) -> None:
    """Raise `AssertionError` for the first invariant that does not hold."""
    Checker().check(state)


class Checker:
    """Checks a state again and again: what looks just as it did the last time is not counted again."""

    def __init__(self) -> None:
        self._sessions: dict[int, tuple[tuple[object, ...], int]] = {}
        self._attachments: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._terminal: dict[int, tuple[int, int, int]] = {}
        self._session_states: dict[int, SessionState] = {}
        self._executor_states: dict[str, ExecutorState] = {}
        self._node_lives: dict[str, NodeLife] = {}

    def check(self, state: State) -> None:
        """Raise `AssertionError` for the first invariant that does not hold."""
        sessions: dict[int, tuple[tuple[object, ...], int]] = {}
        resident = 0
        for number, session in state.sessions.items():
            look = _look(session)
            known = self._sessions.get(number)
            nbytes = known[1] if known is not None and known[0] == look else _check_session(state, session)
            sessions[number] = look, nbytes
            resident += nbytes
        self._sessions = sessions
        assert state.resident_bytes == resident, f"resident bytes {state.resident_bytes}, counted {resident}"
        _check_executors(state)
        _check_indexes(state)
        self._check_attachments(state)
        self._check_moves(state)
        _check_nodes(state)

    def _check_moves(self, state: State) -> None:
        """Since the last time everything has moved along its table: what was there, what is new, and what is gone."""
        terminal = {number: (s.succeeded, s.failed, s.cancelled) for number, s in state.sessions.items()}
        if terminal != self._terminal:
            for number, counts in terminal.items():
                before = self._terminal.get(number, counts)
                fewer = any(now < then for now, then in zip(counts, before, strict=True))
                assert not fewer, f"session {number}: {before} tasks were terminal, and now {counts} are"
            self._terminal = terminal
        sessions = {number: session.record.state for number, session in state.sessions.items()}
        executors = {executor.id: executor.state for executor in state.executors.values()}
        nodes = {node.name: node.life for node in state.nodes.values()}
        _check_ways(SESSIONS, self._session_states, sessions)
        _check_ways(EXECUTORS, self._executor_states, executors, gone=ExecutorState.RELEASED)
        _check_ways(NODES, self._node_lives, nodes)
        self._session_states, self._executor_states, self._node_lives = sessions, executors, nodes

    def _check_attachments(self, state: State) -> None:
        attachments: dict[tuple[int, int], tuple[int, int, int]] = {}
        before = self._attachments
        for key, attachment in state.attachments.items():
            assert (attachment.link, attachment.number) == key
            unseen = attachment.unseen
            look = attachments[key] = len(unseen), attachment.unseen_bytes, unseen[0][0] if unseen else 0
            known = before.get(key, (0, 0, 0))
            if look == known:
                continue
            count, nbytes, first = known
            # Some more segments behind those that were there, as nearly always: these have been counted.
            counted_before = count > 0 and look[0] >= count and look[2] == first
            new = islice(reversed(unseen), look[0] - count) if counted_before else unseen
            counted = (nbytes if counted_before else 0) + sum([size for _, size in new])
            assert look[1] == counted, f"attachment {key[1]}: {look[1]} unseen bytes, counted {counted}"
            most = state.settings.result_window_bytes + (unseen[-1][1] if unseen else 0)
            assert counted < most, f"attachment {key[1]}: {counted} unseen bytes, and a window for less than {most}"
        self._attachments = attachments


def _look(session: Session) -> tuple[object, ...]:
    """What changes with every change of a session's tasks."""
    queue = session.queue
    first = queue.spans[0] if queue.spans else None
    bindings = session.bindings
    return (
        session.open, queue.tasks, len(queue.spans), len(session.loading),
        first and (first.first, first.chunk.resident),
        session.succeeded, session.failed, session.cancelled, session.held_tasks, len(session.unaccounted),
        [(binding.number, binding.held_tasks, binding.held_bytes, len(binding.held)) for binding in bindings.values()],
    )  # fmt: skip


def _check_ways(table: Table[S], before: Mapping[Name, S], now: Mapping[Name, S], gone: S | None = None) -> None:
    """Between two looks, each entity has gone a way of its table; `gone` is where it ends."""
    if before == now:
        return
    for name, state in now.items():
        old = before.get(name)
        assert table.leads(old, state), f"{table.entity} {name} was {title(old)}, and is {title(state)}"
    for name, old in before.items():
        assert name in now or table.leads(old, gone), f"{table.entity} {name} was {title(old)}, and is gone"


def _check_executors(state: State) -> None:
    for executor in state.executors.values():
        binding = executor.binding
        unbound = executor.state in (ExecutorState.IDLE, ExecutorState.VOID)
        assert (binding is None) == unbound, f"executor {executor.id} is {executor.state.name}, binding {binding}"
        assert executor.node.executors.get(executor.id) is executor, f"executor {executor.id} is not on its node"
        if binding is not None:
            assert binding.session.bindings.get(executor.id) is binding, f"executor {executor.id} is not in its session"
            assert binding.leaving == (executor.state is ExecutorState.UNBINDING), f"executor {executor.id} leaving"


def _check_indexes(state: State) -> None:
    """What is found by key or number is there, and whatever is gone is not found any more."""
    sessions = state.sessions.values()
    blocks = sum([len(session.blocks) - (session.own_block is not None) for session in sessions])
    assert len(state.blocks_by_key) == blocks, f"{len(state.blocks_by_key)} keys of {blocks} blocks"
    for key, (session, block) in state.blocks_by_key.items():
        assert session.blocks.get(block.first) is block, f"the block of key {key} is not in its session"
    watches = sum([len(watches) for session in sessions if session.watches for watches in session.watches.values()])
    assert len(state.watches) == watches, f"{len(state.watches)} watches, and tasks have {watches}"
    for watch, (session, task) in state.watches.items():
        assert watch in session.watches.get(task, ()), f"watch {watch} is not with its task {task}"


def left_in(session: Session) -> list[str]:
    """What a session still has that is to be gone once all its tasks are terminal and nobody uses it."""
    return [name for name in _EMPTY_AT_THE_END if getattr(session, name)]


def _check_session(state: State, session: Session) -> int:
    """Every accepted task is in exactly one place, or terminal; returns the resident payload bytes."""
    name = session.record.name
    spans = list(session.queue.spans)
    queued = sum([span.count for span in spans])
    assert session.queue.tasks == queued, f"session {name}: {queued} in the queue, counted {session.queue.tasks}"
    held = 0
    for binding in session.bindings.values():
        _check_binding(binding)
        held += binding.held_tasks
        for part in binding.held.values():
            spans += part.spans
    assert session.held_tasks == held, f"session {name}: holds {session.held_tasks}, counted {held}"
    resident = _check_spans(name, spans)
    accepted = sum([block.next_id - block.first for block in session.blocks.values()])
    terminal = session.succeeded + session.failed + session.cancelled
    assert accepted == terminal + session.unfinished, (
        f"session {name}: {accepted} accepted, {terminal} terminal, {session.unfinished} unfinished"
    )
    assert session.open or not session.queue.tasks or session.unaccounted, f"session {name} is closed and has a queue"
    return resident


def _check_spans(name: str, spans: list[Span]) -> int:
    """No task stands twice, each in its chunk, which counts them; returns the resident payload bytes."""
    end = 0
    chunks: dict[int, Chunk] = {}
    live: dict[int, int] = {}
    for span in sorted(spans, key=attrgetter("first")):
        first, count, chunk = span.first, span.count, span.chunk
        assert count > 0, f"session {name}: an empty span at {first}"
        assert first >= end, f"session {name}: {first} twice"
        end = first + count
        assert chunk.first <= first
        assert end <= chunk.end
        key = id(chunk)
        if key in live:
            live[key] += count
        else:
            live[key] = count
            chunks[key] = chunk
    for key, chunk in chunks.items():
        assert chunk.live == live[key], (
            f"session {name}: chunk {chunk.first} has {chunk.live} live, counted {live[key]}"
        )
    return sum([chunk.nbytes for chunk in chunks.values() if chunk.resident])


def _check_binding(binding: Binding) -> None:
    counted = 0
    for part in binding.held.values():
        assert part.spans
        counted += sum([span.count for span in part.spans])
    assert binding.held_tasks == counted, (
        f"executor {binding.executor.id}: holds {binding.held_tasks}, counted {counted}"
    )
    assert binding.held_bytes >= 0


def _check_nodes(state: State) -> None:
    places = 0
    for node in state.nodes.values():
        places += node.places
        assert (node.life is NodeLife.READY) == (node.link > 0), f"node {node.name} is {node.life.name} on {node.link}"
        assert node.life is not NodeLife.EXPIRED or not node.executors, f"node {node.name} is dead and has executors"
        if not node.link:
            continue
        count = cpu = memory_bytes = gpu = 0
        for executor in node.executors.values():
            binding = executor.binding
            if binding is None or binding.exit is None:
                asks = executor.resources
                count += 1
                cpu += asks.cpu
                memory_bytes += asks.memory_bytes
                gpu += asks.gpu
        has = node.capacity
        assert cpu <= has.cpu and memory_bytes <= has.memory_bytes and gpu <= has.gpu, (
            f"node {node.name} is overbooked: {cpu} CPUs, {memory_bytes} bytes and {gpu} GPUs of {has}"
        )
        assert count <= node.most_executors, f"node {node.name} is over its limit"
    assert state.places == places, f"{state.places} places, counted {places}"


def check_settled(state: State, now_ms: int) -> None:
    """Raise `AssertionError` if something could go on now and nobody will see to it: a missed wake-up."""
    assert not state.dirty, f"sessions {list(state.dirty)} are left to be looked at"
    assert not state.replan, "a plan is left to be made"
    decided = plan(view_of(state, now_ms))
    assert not decided.bind, f"executors could be bound: {decided.bind}"
    assert not decided.unbind, f"executors should give way: {decided.unbind}"
    for session in state.live.values():
        if not session.unaccounted:
            _check_dispatched(state, session)
    for attachment in state.attachments.values():
        waits = attachment.behind and not attachment.reading and attachment.sent < attachment.due
        assert not waits or attachment.unseen_bytes, f"attachment {attachment.number} is behind and nobody reads"


def _check_dispatched(state: State, session: Session) -> None:
    name = session.record.name
    assert not session.postponed, f"session {name}: a cancel waits for nothing"
    assert session.open or session.bindings, f"session {name} is over and still live"
    spans = session.queue.spans
    for binding in session.bindings.values():
        if not binding.ready or binding.held:
            continue
        assert not spans or not spans[0].chunk.resident, f"session {name}: executor {binding.executor.id} could run"
        assert not spans or spans[0].chunk.loading, f"session {name}: nobody loads chunk {spans[0].chunk.first}"
        assert ("idle", binding.executor.id) in state.deadlines, f"executor {binding.executor.id} stays for ever"

"""What is always true of the state between turns; checked after every turn in tests and simulation."""

from itertools import islice

from flame.core.control.entities import Binding, Session
from flame.core.control.placement import view_of
from flame.core.control.state import State
from flame.core.scheduling.plan import plan
from flame.kernel.ranges import RangeSet
from flame.model.resources import Resources
from flame.model.states import ExecutorState


def check(state: State) -> None:
    """Raise `AssertionError` for the first invariant that does not hold."""
    Checker().check(state)


class Checker:
    """Checks a state again and again: what looks just as it did the last time is not counted again."""

    def __init__(self) -> None:
        self._sessions: dict[int, tuple[tuple[object, ...], int]] = {}
        self._attachments: dict[tuple[int, int], tuple[int, int, int]] = {}

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
        self._check_attachments(state)
        places = sum(node.places for node in state.nodes.values())
        assert state.places == places, f"{state.places} places, counted {places}"
        _check_nodes(state)

    def _check_attachments(self, state: State) -> None:
        attachments: dict[tuple[int, int], tuple[int, int, int]] = {}
        for key, attachment in state.attachments.items():
            assert (attachment.link, attachment.number) == key
            unseen = attachment.unseen
            look = attachments[key] = len(unseen), attachment.unseen_bytes, unseen[0][0] if unseen else 0
            count, nbytes, first = self._attachments.get(key, (0, 0, 0))
            # Some more segments behind those that were there, as nearly always: these have been counted.
            known = count > 0 and look[0] >= count and look[2] == first
            new = islice(reversed(unseen), look[0] - count) if known else unseen
            counted = (nbytes if known else 0) + sum(size for _, size in new)
            assert look[1] == counted, f"attachment {key[1]}: {look[1]} unseen bytes, counted {counted}"
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


def _check_executors(state: State) -> None:
    for executor in state.executors.values():
        binding = executor.binding
        unbound = executor.state in (ExecutorState.IDLE, ExecutorState.VOID)
        assert (binding is None) == unbound, f"executor {executor.id} is {executor.state.name}, binding {binding}"
        assert executor.node.executors.get(executor.id) is executor, f"executor {executor.id} is not on its node"
        if binding is not None:
            assert binding.session.bindings.get(executor.id) is binding, f"executor {executor.id} is not in its session"
            assert binding.leaving == (executor.state is ExecutorState.UNBINDING), f"executor {executor.id} leaving"


def _check_session(state: State, session: Session) -> int:
    """Every accepted task is in exactly one place, or terminal; returns the resident payload bytes."""
    name = session.record.name
    seen = RangeSet()
    spans = list(session.queue.spans)
    assert session.queue.tasks == sum(span.count for span in spans), f"session {name}: the queue is miscounted"
    held = 0
    for binding in session.bindings.values():
        _check_binding(binding)
        held += binding.held_tasks
        spans.extend(span for part in binding.held.values() for span in part.spans)
    assert session.held_tasks == held, f"session {name}: holds {session.held_tasks}, counted {held}"
    chunks = {}
    live: dict[int, int] = {}
    for span in spans:
        assert span.count > 0, f"session {name}: an empty span at {span.first}"
        assert list(seen.missing(span.first, span.end)) == [(span.first, span.end)], (
            f"session {name}: {span.first} twice"
        )
        seen.add(span.first, span.end)
        assert span.chunk.first <= span.first
        assert span.end <= span.chunk.end
        chunks[id(span.chunk)] = span.chunk
        live[id(span.chunk)] = live.get(id(span.chunk), 0) + span.count
    for key, chunk in chunks.items():
        assert chunk.live == live[key], (
            f"session {name}: chunk {chunk.first} has {chunk.live} live, counted {live[key]}"
        )
    accepted = sum(block.next_id - block.first for block in session.blocks.values())
    terminal = session.succeeded + session.failed + session.cancelled
    assert accepted == terminal + session.unfinished, (
        f"session {name}: {accepted} accepted, {terminal} terminal, {session.unfinished} unfinished"
    )
    assert session.open or not session.queue.tasks or session.unaccounted, f"session {name} is closed and has a queue"
    return sum(chunk.nbytes for chunk in chunks.values() if chunk.resident)


def _check_binding(binding: Binding) -> None:
    counted = sum(span.count for part in binding.held.values() for span in part.spans)
    assert binding.held_tasks == counted, (
        f"executor {binding.executor.id}: holds {binding.held_tasks}, counted {counted}"
    )
    assert binding.held_bytes >= 0
    assert all(part.spans for part in binding.held.values())


def _check_nodes(state: State) -> None:
    for node in state.nodes.values():
        if not node.link:
            continue
        used = node.capacity
        there = [one for one in node.executors.values() if one.binding is None or one.binding.exit is None]
        for executor in there:
            used = used.minus(executor.resources)
        assert Resources().fits(used), f"node {node.name} is overbooked: {used}"
        assert not node.max_executors or len(there) <= node.max_executors, f"node {node.name} is over its limit"


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

"""Dispatch: executors are topped up to their credit, and give back what another could run sooner."""

from flame.core.control.effects import LoadInputs, TellWatch
from flame.core.control.entities import Binding, Held, Session
from flame.core.control.outcomes import record_runs
from flame.core.control.queue import Span
from flame.core.control.sessions import delete
from flame.core.control.state import State, Turn
from flame.core.control.tasks import resume_cancels
from flame.core.control.transitions import TaskPlace
from flame.model.executor_messages import AssignTasks, RetractTasks
from flame.model.limits import CREDIT_BYTES, CREDIT_MS, LOAD_BYTES, MAX_CHUNK_TASKS, MAX_HELD_RANGES
from flame.model.ranges import HeldRange
from flame.model.states import TaskState

# Room for what an executor has finished and not reported yet: its table counts that too.
_MOST_RANGES = MAX_HELD_RANGES // 2
# Below this much estimated work it is not worth asking for tasks back, as long as the executor reports some.
_RETRACT_NS = 1_000_000
_RETRACT_MS = 10


def dispatch(state: State, turn: Turn, session: Session) -> None:
    """Give waiting tasks to the session's executors that are below half their credit."""
    if session.unaccounted:
        return
    if session.postponed:
        resume_cancels(state, turn, session)
    stirred = [binding for binding in session.stirred.values() if binding.ready]
    session.stirred.clear()
    if not session.open:
        # Only after a restart: what was running when the session was closed, and is nobody's now.
        record_runs(state, turn, session, session.queue.clear(), TaskPlace.QUEUED, TaskState.CANCELLED)
        if not session.bindings:
            state.live.pop(session.record.number, None)
            if session.deleting:
                delete(state, turn, session)
        return
    if not session.unsettled and session.queue.tasks:
        # The common case: executors have reported, all others hold enough as long as there is something in the queue.
        _supply(state, turn, session, stirred)
        if session.queue.tasks:
            _mark_idle(state, turn, session, stirred)
            return
    session.unsettled = False
    ready = [binding for binding in session.bindings.values() if binding.ready]
    session.ready = len(ready)
    if ready and session.queue.tasks:
        _supply(state, turn, session, ready)
    if not session.queue.tasks and len(ready) > 1:
        _rebalance(state, turn, session, ready)
    _mark_idle(state, turn, session, ready)


def _supply(state: State, turn: Turn, session: Session, executors: list[Binding]) -> None:
    """Give tasks to some of the ready executors, to the emptiest first."""
    executors.sort(key=_held_tasks)
    for binding in executors:
        _top_up(state, turn, session, binding)
    _load(turn, session)


def _held_tasks(binding: Binding) -> int:
    return binding.held_tasks


def _top_up(state: State, turn: Turn, session: Session, binding: Binding) -> None:
    credit = min(binding.credit, max(1, session.queue.tasks // (2 * session.ready)))
    if session.task_ns:
        credit = min(credit, max(1, int(CREDIT_MS * 1e6 / session.task_ns)))
    if 2 * binding.held_tasks > credit or (binding.held_tasks and binding.held_bytes >= CREDIT_BYTES):
        return
    room = credit - binding.held_tasks
    while room > 0 and len(binding.held) < _MOST_RANGES:
        if binding.held_tasks and binding.held_bytes >= CREDIT_BYTES:
            return
        span = session.queue.take(min(room, MAX_CHUNK_TASKS))
        if span is None:
            return
        room -= span.count
        _assign(state, turn, session, binding, span)


def _assign(state: State, turn: Turn, session: Session, binding: Binding, span: Span) -> None:
    attempt = state.next_attempt()
    lengths, blob = span.chunk.slice(span.first, span.count)
    binding.held[attempt] = Held([span], len(blob))
    binding.held_tasks += span.count
    binding.held_bytes += len(blob)
    binding.idle_since_ms = 0
    binding.changed_ms = turn.now_ms
    binding.retract_empty = False
    session.move(TaskPlace.QUEUED, TaskPlace.HELD, span.count)
    message = AssignTasks(attempt=attempt, first=span.first, count=span.count, lengths=lengths, blob=blob)
    stored = span.chunk.turn <= state.durable and binding.turn <= state.durable
    turn.executor(binding, message, stored=stored)
    if session.watches:
        for task in [task for task in session.watches if span.first <= task < span.end]:
            for watch in session.watches[task]:
                turn.after.append(TellWatch(watch, session.record.number, task, last=False))


def _load(turn: Turn, session: Session) -> None:
    """Read the payloads at the front of the queue back, if they were dropped from memory."""
    if not session.spilled:
        return
    session.spilled = session.queue.tasks > 0
    for chunk in session.queue.absent(LOAD_BYTES):
        chunk.loading = True
        session.loading[chunk.first] = chunk
        turn.after.append(LoadInputs(session.record.number, chunk.first, chunk.count))


def _rebalance(state: State, turn: Turn, session: Session, ready: list[Binding]) -> None:
    """The queue is empty: where one executor holds unstarted tasks and another none, ask for half of them.

    A little work is left where it is, unless nothing is heard of it: then it waits behind a task that takes longer.
    """
    idle = sum(not b.held for b in ready)
    if not idle:
        return
    for binding in sorted(ready, key=_held_tasks, reverse=True):
        unstarted = binding.held_tasks - 1
        if not idle or unstarted < 1:
            return
        if binding.retracting or binding.retract_empty:
            continue
        patient_until_ms = binding.changed_ms + _RETRACT_MS
        if session.task_ns and unstarted * session.task_ns < _RETRACT_NS and turn.now_ms < patient_until_ms:
            if ("rebalance", session.record.number) not in state.deadlines:
                state.deadlines.set(("rebalance", session.record.number), patient_until_ms)
            continue
        idle -= 1
        binding.retracting = state.next_attempt()
        ranges = _tail(binding, (unstarted + 1) // 2)
        message = RetractTasks(request=binding.retracting, ranges=ranges)
        turn.executor(binding, message, stored=True)


def _tail(binding: Binding, count: int) -> tuple[HeldRange, ...]:
    """The last `count` tasks that an executor holds."""
    ranges: list[HeldRange] = []
    for attempt, held in reversed(binding.held.items()):
        for span in reversed(held.spans):
            most = min(count, span.count)
            ranges.append(HeldRange(attempt, span.end - most, most))
            count -= most
            if not count:
                return tuple(ranges)
    return tuple(ranges)


def _mark_idle(state: State, turn: Turn, session: Session, executors: list[Binding]) -> None:
    """Who has nothing to do stays for the application's release delay, or goes if others need room."""
    for binding in executors:
        if binding.held or binding.idle_since_ms:
            continue
        binding.idle_since_ms = turn.now_ms
        name = ("idle", binding.executor.id)
        if name not in state.deadlines:
            application = state.applications.get(session.record.spec.application)
            delay = application.record.spec.delay_release_ms if application else 0
            state.deadlines.set(name, turn.now_ms + delay)
        if state.contended:
            state.replan = True

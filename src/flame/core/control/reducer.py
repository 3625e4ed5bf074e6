"""The reducer: `step` applies one event, `settle` ends the turn.

`step` changes the state and adds writes and effects to the turn; `settle` places executors, dispatches tasks and
returns the batch. Between the two any number of events may be applied, so that what arrives together is decided,
stored and answered together.
"""

from collections.abc import Callable
from typing import Any

from flame.core.control import applications, nodes, outcomes, placement, sessions, tasks
from flame.core.control import executors as x
from flame.core.control.dispatch import dispatch
from flame.core.control.effects import Answer, DropExecutorLink, TellWatch
from flame.core.control.events import (
    ApplicationDeleteRequested,
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
    SessionCreateRequested,
    SessionDeleteRequested,
    SpaceMeasured,
    TaskCreateRequested,
    TaskWatchEnded,
    TaskWatchRequested,
    TimeReached,
)
from flame.core.control.state import Batch, State, Turn
from flame.model.client_messages import AcknowledgeSegments, AttachSession, CancelTasks, DetachSession, SubmitChunk
from flame.model.errors import FlameError, Rejection
from flame.model.executor_messages import AttachExecutor, ReportOutcomes, SessionEntered, SessionLeft, TasksRetracted
from flame.model.node_messages import ExecutorExited, ExecutorStarted, JoinNode, PingNode


def step(state: State, turn: Turn, event: Event) -> None:
    """Apply one event. A request that is refused changes nothing and is answered with the error."""
    _EVENTS[type(event)](state, turn, event)


def settle(state: State, turn: Turn) -> Batch:
    """End the turn: place executors, dispatch tasks, and hand over everything that was decided."""
    _fire_deadlines(state, turn)
    # A plan can release tasks and dispatch can ask for a plan; two rounds settle all but what waits for others.
    for _ in range(2):
        dirty, state.dirty = state.dirty, {}
        for session in dirty.values():
            placement.notice_demand(state, session)
        if state.replan:
            placement.replan(state, turn)
        for session in dirty.values():
            dispatch(state, turn, session)
        if not state.dirty and not state.replan:
            break
    turn.finish_rows()
    batch = Batch(state.turn, turn.writes, turn.now, turn.after_commit, state.deadlines.next_ms())
    state.turn += 1
    return batch


def can_wait(state: State, event: Event) -> bool:
    """Whether nobody waits for this event alone: results of an executor that has more tasks to go on with.

    Handled together with what comes soon after, they cost one commit instead of many.
    """
    if type(event) is not ExecutorSaid or type(event.message) is not ReportOutcomes:
        return False
    binding = x.binding_of(state, event.executor, event.binding, event.link)
    if binding is None or binding.leaving or binding.session.watches:
        return False
    finished = sum(outcome.count for outcome in event.message.outcomes)
    return 2 * finished < binding.held_tasks


def committed(state: State, turn_number: int) -> None:
    """The writes of a turn are stored."""
    state.durable = turn_number


# --- events ----------------------------------------------------------------------------------------------------------


def _client_said(state: State, turn: Turn, event: ClientSaid) -> None:
    _CLIENT[type(event.message)](state, turn, event.link, event.message)


def _executor_said(state: State, turn: Turn, event: ExecutorSaid) -> None:
    message = event.message
    if isinstance(message, AttachExecutor):
        x.on_attach_executor(state, turn, event, message)
        return
    binding = x.binding_of(state, event.executor, event.binding, event.link)
    if binding is None:
        error = Rejection("ABORTED", f"executor {event.executor}: its binding {event.binding} is over")
        turn.now.append(DropExecutorLink(event.executor, event.binding, event.link, error))
        return
    _EXECUTOR[type(message)](state, turn, binding, message)


def _node_said(state: State, turn: Turn, event: NodeSaid) -> None:
    message = event.message
    node = state.nodes.get(event.node)
    if isinstance(message, JoinNode):
        nodes.on_join_node(state, turn, event.link, message)
    elif node is None or node.link != event.link:
        return
    elif isinstance(message, PingNode):
        nodes.on_ping_node(state, turn, event.node, event.link, message)
    elif isinstance(message, ExecutorStarted):
        nodes.on_executor_started(state, turn, message)
    elif isinstance(message, ExecutorExited):
        x.on_executor_exited(state, turn, node, message)


def _request(handler: Callable[[State, Turn, Any], None]) -> Callable[[State, Turn, Any], None]:
    """A request that is refused (before it changed anything) is answered with the error."""

    def handle(state: State, turn: Turn, event: Any) -> None:
        try:
            handler(state, turn, event)
        except FlameError as error:
            turn.after.append(Answer(event.request, Rejection.of(error)))

    return handle


def _task_watch(state: State, turn: Turn, event: TaskWatchRequested) -> None:
    try:
        tasks.on_task_watch(state, turn, event)
    except FlameError as error:
        turn.after.append(TellWatch(event.watch, 0, event.task, last=True, error=Rejection.of(error)))


def _inputs_loaded(state: State, turn: Turn, event: InputsLoaded) -> None:
    session = state.sessions.get(event.session)
    if session is None:
        return
    chunk = session.loading.pop(event.first)
    if chunk.live:
        chunk.fill(event.lengths, event.blob)
        state.resident_bytes += chunk.nbytes
        state.touch(session)


def _segments_read(state: State, turn: Turn, event: SegmentsRead) -> None:
    outcomes.on_segments_read(state, turn, event.link, event.attachment, event.segments, event.through)


def _space_measured(state: State, turn: Turn, event: SpaceMeasured) -> None:
    state.free_bytes = event.free_bytes
    state.low_space = event.free_bytes < state.settings.low_space_bytes


def _nothing(state: State, turn: Turn, event: TimeReached) -> None:
    """The deadlines are looked at in every turn."""


_EVENTS: dict[type, Callable[[State, Turn, Any], None]] = {
    ClientSaid: _client_said,
    ClientLost: lambda state, turn, event: sessions.on_client_lost(state, turn, event.link),
    ExecutorSaid: _executor_said,
    ExecutorLost: lambda state, turn, e: x.on_executor_lost(state, turn, e.executor, e.binding, e.link),
    NodeSaid: _node_said,
    NodeLost: lambda state, turn, event: nodes.on_node_lost(state, turn, event.node, event.link),
    ApplicationPutRequested: _request(applications.on_application_put),
    ApplicationDeleteRequested: _request(applications.on_application_delete),
    SessionCreateRequested: _request(sessions.on_session_create),
    SessionCloseRequested: _request(sessions.on_session_close),
    SessionDeleteRequested: _request(sessions.on_session_delete),
    TaskCreateRequested: _request(tasks.on_task_create),
    TaskWatchRequested: _task_watch,
    TaskWatchEnded: tasks.on_task_watch_ended,
    InputsLoaded: _inputs_loaded,
    SegmentsRead: _segments_read,
    RowsPurged: lambda state, turn, event: sessions.on_rows_purged(state, turn, event.more),
    SpaceMeasured: _space_measured,
    TimeReached: _nothing,
}

_CLIENT: dict[type, Callable[[State, Turn, int, Any], None]] = {
    AttachSession: sessions.on_attach_session,
    DetachSession: sessions.on_detach_session,
    SubmitChunk: tasks.on_submit_chunk,
    CancelTasks: tasks.on_cancel_tasks,
    AcknowledgeSegments: outcomes.on_acknowledge_segments,
}

_EXECUTOR: dict[type, Callable[[State, Turn, Any, Any], None]] = {
    SessionEntered: x.on_session_entered,
    ReportOutcomes: x.on_report_outcomes,
    TasksRetracted: x.on_tasks_retracted,
    SessionLeft: x.on_session_left,
}


# --- deadlines -------------------------------------------------------------------------------------------------------


def _fire_deadlines(state: State, turn: Turn) -> None:
    while (name := state.deadlines.pop_due(turn.now_ms)) is not None:
        kind, key = name
        _DEADLINES[kind](state, turn, key)


def _executor_deadline(handler: Callable[[State, Turn, Any], None]) -> Callable[[State, Turn, Any], None]:
    def handle(state: State, turn: Turn, key: Any) -> None:
        executor = state.executors.get(key)
        if executor is not None:
            handler(state, turn, executor)

    return handle


def _idle(state: State, turn: Turn, executor: Any) -> None:
    """The release delay may be over: the executor goes, unless it was busy meanwhile or its session has use for it."""
    binding = executor.binding
    if binding is None or binding.leaving or not binding.idle_since_ms:
        return
    session = binding.session
    application = state.applications.get(session.record.spec.application)
    delay = application.record.spec.delay_release_ms if application else 0
    due = binding.idle_since_ms + delay
    if due > turn.now_ms:
        state.deadlines.set(("idle", executor.id), due)
        return
    if session.staying > placement.wants(state, session):
        session.account(turn.now_ms)
        x.leave(state, turn, binding)
    else:
        state.deadlines.set(("idle", executor.id), turn.now_ms + max(delay, 1_000))


def _exit(state: State, turn: Turn, executor: Any) -> None:
    """The process is gone, and its link does not end: somebody else holds it. Go on without."""
    binding = executor.binding
    if binding is not None and binding.exit is not None:
        error = Rejection("ABORTED", f"executor {executor.id}: its process has ended")
        turn.now.append(DropExecutorLink(executor.id, binding.number, binding.link, error))
        x.end_binding(state, turn, binding, binding.exit)


def _replan(state: State, turn: Turn, key: Any) -> None:
    state.replan = True


def _rebalance(state: State, turn: Turn, key: Any) -> None:
    session = state.live.get(key)
    if session is not None:
        state.touch(session)


def _node_deadline(handler: Callable[[State, Turn, Any], None]) -> Callable[[State, Turn, Any], None]:
    def handle(state: State, turn: Turn, key: Any) -> None:
        node = state.nodes.get(key)
        if node is not None:
            handler(state, turn, node)

    return handle


def _purge(state: State, turn: Turn, key: Any) -> None:
    sessions.purge(state, turn)


def _unfit(state: State, turn: Turn, key: Any) -> None:
    session = state.sessions.get(key)
    if session is not None:
        placement.on_unfit_deadline(state, turn, session)


def _grace(state: State, turn: Turn, key: Any) -> None:
    """Nodes that are not back by now are waited for no longer; what they still run is settled by attempt."""
    for session in state.live.values():
        for executor_id in list(session.unaccounted):
            if not state.executors[executor_id].node.link:
                del session.unaccounted[executor_id]
                state.touch(session)
    state.replan = True


_DEADLINES: dict[str, Callable[[State, Turn, Any], None]] = {
    "idle": _executor_deadline(_idle),
    "leave": _executor_deadline(x.on_leave_timeout),
    "exit": _executor_deadline(_exit),
    "release": _executor_deadline(x.remove),
    "start": _replan,
    "rotate": _replan,
    "rebalance": _rebalance,
    "lease": _node_deadline(nodes.on_lease_deadline),
    "forget": _node_deadline(nodes.on_forget_deadline),
    "purge": _purge,
    "unfit": _unfit,
    "grace": _grace,
}

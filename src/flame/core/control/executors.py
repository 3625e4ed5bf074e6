"""Executors: they attach, enter, report, give back, leave and die."""

from flame.core.control.effects import DropExecutorLink
from flame.core.control.entities import Binding, Executor, Held, Node, Session
from flame.core.control.events import ExecutorSaid
from flame.core.control.outcomes import put_back, record, record_runs
from flame.core.control.queue import Span, cut
from flame.core.control.state import State, Turn
from flame.core.control.tasks import finish_cancels
from flame.core.control.transitions import TaskPlace
from flame.kernel.ranges import RangeSet
from flame.model.chunk import check_columns, slice_columns
from flame.model.errors import EXECUTOR_DIED, NO_EXECUTOR, FailureRecord, InvalidArgument, Rejection
from flame.model.executor_messages import (
    AcknowledgeReport,
    AttachExecutor,
    EnterSession,
    LeaveSession,
    Outcome,
    ReportOutcomes,
    SessionEntered,
    SessionLeft,
    TasksRetracted,
)
from flame.model.limits import (
    CREDIT_TASKS,
    LEAVE_TIMEOUT_MS,
    MAX_HOST_ENDS,
    MAX_START_FAILURES,
    MAX_TASK_DEATHS,
    MAX_UNEXPLAINED_ENDS,
)
from flame.model.node_messages import AcknowledgeExit, EndExecutor, ExecutorExited
from flame.model.ranges import HeldRange
from flame.model.records import DeathsRecord, DeleteBinding, PutDeaths
from flame.model.states import ExecutorState, TaskState

# The exit of a process and the end of its link arrive on two ways; the second is at most this much later.
LINK_END_MS = 1_000
_KILL_GRACE_MS = 1_000
_FIRST_BACK_OFF_MS = 20
_NODE_BACK_OFF_MS = 1_000
"""After a start that a node had no room for: it may last, and nobody is to blame who could be failed."""
_TASK_TIME_WEIGHT = 0.25
_FINISHED = bytes((TaskState.SUCCEED, TaskState.FAILED))


def binding_of(state: State, executor: str, binding: int, link: int) -> Binding | None:
    """The binding a message speaks for, if it is the current one and came on its link."""
    found = state.executors.get(executor)
    current = found.binding if found else None
    return current if current and current.number == binding and current.link == link else None


def on_attach_executor(state: State, turn: Turn, event: ExecutorSaid, message: AttachExecutor) -> None:
    """A process presents itself: adopt what it holds, let it enter or go on."""
    executor = state.executors.get(event.executor)
    binding = executor.binding if executor else None
    if executor is None or binding is None or binding.number != message.binding:
        error = Rejection("ABORTED", f"executor {event.executor}: its binding {message.binding} is over")
        turn.now.append(DropExecutorLink(event.executor, event.binding, event.link, error))
        return
    if event.link < binding.newest_link:
        error = Rejection("UNAVAILABLE", f"executor {event.executor} has attached on a newer link")
        turn.now.append(DropExecutorLink(event.executor, event.binding, event.link, error))
        return
    binding.session.account(turn.now_ms)
    binding.link = binding.newest_link = event.link
    binding.pid = message.pid
    binding.retracting = 0
    binding.giving_back = False
    adopt(state, turn, binding, message.held)
    # What was asked of it on a former link is not answered any more, also if the end of that link is yet to come.
    finish_cancels(turn, binding.session, f"{binding.number}/")
    if message.entered:
        entered(state, turn, binding)
    if binding.leaving and binding.entered:
        binding.giving_back = True
        turn.executor(binding, LeaveSession(), stored=True)
    elif binding.leaving:
        turn.node(executor.node, EndExecutor(executor=executor.id, binding=binding.number, grace_ms=0))
        _watch_leave(state, turn, binding)
    elif not message.entered:
        session = binding.session.record
        enter = EnterSession(
            session=session.number,
            session_id=session.name,
            application=session.spec.application,
            common_data=session.spec.common_data,
        )
        turn.executor(binding, enter, stored=True)


def adopt(state: State, turn: Turn, binding: Binding, held: tuple[HeldRange, ...]) -> None:
    """Bring what we think an executor holds and what it really holds together.

    What it was sent and did not get goes back to the queue. What a session manager before us gave it becomes ours.
    """
    session = binding.session
    if session.unaccounted.pop(binding.executor.id, False) is None:
        state.replan = True
    real: dict[int, RangeSet] = {}
    for part in held:
        real.setdefault(part.attempt, RangeSet()).add(part.first, part.first + part.count)
    lost: list[Span] = []
    for attempt in list(binding.held):
        ours = RangeSet((span.first, span.end) for span in binding.held[attempt].spans)
        theirs = real.get(attempt, RangeSet())
        for first, end in list(ours):
            for low, high in list(theirs.missing(first, end)):
                lost.extend(take(binding, attempt, low, high - low))
    put_back(state, turn, session, lost)
    for part in held:
        if part.attempt >> 32 < state.epoch and part.count > 0:
            _claim(binding, part)
    state.touch(session)


def _claim(binding: Binding, part: HeldRange) -> None:
    """Take over tasks that were given out before this start; of two claims the higher attempt wins."""
    session = binding.session
    end = part.first + part.count
    spans = session.queue.remove(part.first, end)
    queued = sum(span.count for span in spans)
    for other in session.bindings.values():
        for attempt in [a for a in other.held if a < part.attempt and other is not binding]:
            spans.extend(take(other, attempt, part.first, part.count))
    if not spans:
        return
    count = sum(span.count for span in spans)
    if queued:
        session.move(TaskPlace.QUEUED, TaskPlace.HELD, queued)
    known = binding.held.setdefault(part.attempt, Held([], 0))
    known.spans.extend(sorted(spans, key=lambda span: span.first))
    binding.idle_since_ms = 0
    binding.held_tasks += count


def take(binding: Binding, attempt: int, first: int, count: int) -> list[Span]:
    """Take [first, first + count) of an attempt out of what an executor holds; what it does not hold is left out.

    For their session these tasks count as held until they are put back or recorded, which the caller does.
    """
    held = binding.held.get(attempt)
    if held is None or count < 1:
        return []
    head = held.spans[0]
    if head.first == first and count < head.count:
        head.first += count
        head.count -= count
        taken = [Span(head.chunk, first, count)]
    else:
        taken = sorted(cut(held.spans, first, first + count), key=lambda span: span.first)
        if not held.spans:
            del binding.held[attempt]
            binding.held_bytes -= held.nbytes
    tasks = sum(span.count for span in taken)
    binding.held_tasks -= tasks
    return taken


def on_session_entered(state: State, turn: Turn, binding: Binding, message: SessionEntered) -> None:
    """Session enter returned; a failure is settled by the exit of the process, which follows."""
    if not message.failure:
        entered(state, turn, binding)


def entered(state: State, turn: Turn, binding: Binding) -> None:
    """Session enter has returned: the executor may be given tasks."""
    session = binding.session
    binding.entered = True
    if binding.executor.state is ExecutorState.BINDING:
        binding.executor.move(ExecutorState.BOUND, turn.now_ms)
    session.start_failures = 0
    state.touch(session)


def on_report_outcomes(state: State, turn: Turn, binding: Binding, message: ReportOutcomes) -> None:
    """Results: store what is still this executor's to finish, acknowledge the report once that is durable."""
    session = binding.session
    try:
        for outcome in message.outcomes:
            _check_outcome(outcome)
    except InvalidArgument as error:
        turn.now.append(DropExecutorLink(binding.executor.id, binding.number, binding.link, Rejection.of(error)))
        return
    for outcome in message.outcomes:
        spans = take(binding, outcome.attempt, outcome.first, outcome.count)
        if sum(span.count for span in spans) == outcome.count:
            columns = outcome.states, outcome.lengths, outcome.blob
            record(state, turn, session, spans, TaskPlace.HELD, outcome.state, columns)
        else:
            for span in spans:
                record(state, turn, session, [span], TaskPlace.HELD, outcome.state, _part(outcome, span))
        if outcome.busy_ns:
            each = outcome.busy_ns / outcome.count
            session.task_ns += (each - session.task_ns) * (_TASK_TIME_WEIGHT if session.task_ns else 1.0)
    session.unexplained_ends = 0
    binding.credit = min(CREDIT_TASKS, 2 * binding.credit)
    binding.retract_empty = False
    binding.changed_ms = turn.now_ms
    turn.executor(binding, AcknowledgeReport(message.report), stored=False, lazy=not binding.held)
    _watch_leave(state, turn, binding)
    state.touch(session, binding)


def _check_outcome(outcome: Outcome) -> None:
    states = outcome.states or bytes((outcome.state,))
    if outcome.count < 1 or states.strip(_FINISHED) or (outcome.states and len(states) != outcome.count):
        raise InvalidArgument(f"an outcome of {outcome.count} tasks from {outcome.first} has impossible states")
    check_columns(outcome.count, outcome.lengths, outcome.blob)


def _part(outcome: Outcome, span: Span) -> tuple[bytes, bytes, bytes]:
    """The columns of an outcome for some of its tasks."""
    low = span.first - outcome.first
    columns = slice_columns(outcome.lengths, outcome.blob, low, span.count)
    return outcome.states[low : low + span.count], *columns


def on_tasks_retracted(state: State, turn: Turn, binding: Binding, message: TasksRetracted) -> None:
    """Unstarted tasks came back: to the queue, or to their cancel."""
    spans: list[Span] = []
    for part in message.ranges:
        spans.extend(take(binding, part.attempt, part.first, part.count))
    if message.request == binding.retracting:
        binding.retracting = 0
        binding.retract_empty = not spans
    if message.request == 0:
        binding.giving_back = False
    put_back(state, turn, binding.session, spans)
    finish_cancels(turn, binding.session, f"{binding.number}/{message.request}")
    _watch_leave(state, turn, binding)
    state.touch(binding.session)


def on_session_left(state: State, turn: Turn, binding: Binding, message: SessionLeft) -> None:
    """Session leave returned; the exit of the process follows."""
    state.deadlines.set(("leave", binding.executor.id), turn.now_ms + LEAVE_TIMEOUT_MS)


def leave(state: State, turn: Turn, binding: Binding) -> None:
    """Let an executor go: after the task it runs, or at once where it has not entered yet."""
    if binding.leaving:
        return
    executor = binding.executor
    binding.leaving = True
    executor.move(ExecutorState.UNBINDING, turn.now_ms)
    if binding.link and binding.entered:
        binding.giving_back = True
        turn.executor(binding, LeaveSession(), stored=False)
    elif not binding.entered and executor.id not in binding.session.unaccounted:
        end = EndExecutor(executor=executor.id, binding=binding.number, grace_ms=_KILL_GRACE_MS)
        turn.node(executor.node, end)
    _watch_leave(state, turn, binding)


def _watch_leave(state: State, turn: Turn, binding: Binding) -> None:
    """Once a leaving executor has nothing to finish, its leave is limited in time."""
    name = ("leave", binding.executor.id)
    if binding.leaving and not binding.held and name not in state.deadlines:
        state.deadlines.set(name, turn.now_ms + LEAVE_TIMEOUT_MS)


def on_leave_timeout(state: State, turn: Turn, executor: Executor) -> None:
    """Session leave takes too long: the process is killed."""
    binding = executor.binding
    if binding is None or not binding.leaving or binding.held:
        return
    if executor.id not in binding.session.unaccounted:
        end = EndExecutor(executor=executor.id, binding=binding.number, grace_ms=_KILL_GRACE_MS)
        turn.node(executor.node, end, stored=True)
    state.deadlines.set(("leave", executor.id), turn.now_ms + LEAVE_TIMEOUT_MS)


def on_executor_lost(state: State, turn: Turn, executor_id: str, number: int, link: int) -> None:
    """The link of a process is over. Its tasks stay with it until its exit is known or its lease is over."""
    binding = binding_of(state, executor_id, number, link)
    if binding is None:
        return
    binding.session.account(turn.now_ms)
    binding.link = 0
    binding.retracting = 0
    binding.giving_back = False
    if binding.exit is not None:
        end_binding(state, turn, binding, binding.exit)
    else:
        finish_cancels(turn, binding.session, f"{binding.number}/")


def on_executor_exited(state: State, turn: Turn, node: Node, message: ExecutorExited) -> None:
    """A process is gone. What it sent before is still on its link, so the end of the link is awaited."""
    executor = state.executors.get(message.executor)
    binding = executor.binding if executor else None
    if executor is None or binding is None or binding.number != message.binding:
        turn.node(node, AcknowledgeExit(executor=message.executor, binding=message.binding))
        return
    if binding.exit is None:
        binding.exit = message
        if binding.link:
            state.deadlines.set(("exit", executor.id), turn.now_ms + LINK_END_MS)
            state.replan = True
        else:
            end_binding(state, turn, binding, message)


def end_binding(state: State, turn: Turn, binding: Binding, exit: ExecutorExited | None) -> None:
    """A binding is over: its tasks go back, a death is counted, the executor keeps or gives up its place.

    Args:
        exit: how the process ended, or None where nobody knows (its node's lease is over).
    """
    executor, session = binding.executor, binding.session
    session.account(turn.now_ms)
    spans = [span for held in binding.held.values() for span in held.spans]
    if exit is not None and executor.id in session.unaccounted:
        # It died before it could say what it held: what it ran is in the queue.
        claimed = session.queue.remove(exit.current, exit.current + 1)
        if claimed:
            session.move(TaskPlace.QUEUED, TaskPlace.HELD, 1)
        spans.extend(claimed)
    for span in spans:
        # Handed out again only once it is stored that this executor is gone.
        span.chunk.turn = state.turn
    binding.held.clear()
    binding.held_tasks = binding.held_bytes = 0
    if exit is not None:
        charged = cut(spans, exit.current, exit.current + 1)
        if not charged and exit.entered and not exit.left and not exit.killed and not binding.leaving:
            charged = _blame_somebody(state, turn, session, spans)
        if charged:
            count = _count_host_end if exit.killed else _count_death
            count(state, turn, session, charged[0].first, charged, exit)
    put_back(state, turn, session, spans)
    finish_cancels(turn, session, f"{binding.number}/")
    session.bindings.pop(executor.id, None)
    session.unaccounted.pop(executor.id, None)
    if not session.open and not session.bindings:
        state.live.pop(session.record.number, None)
    turn.writes.append(DeleteBinding(executor.id))
    for name in ("idle", "leave", "exit"):
        state.deadlines.drop((name, executor.id))
    executor.binding = None
    executor.move(ExecutorState.IDLE, turn.now_ms)
    if exit is not None:
        acknowledge = AcknowledgeExit(executor=exit.executor, binding=exit.binding)
        turn.node(executor.node, acknowledge)
        if not exit.entered and not exit.left and not binding.leaving:
            if not exit.killed:
                _start_failed(state, turn, session, exit)
            elif exit.failure:  # its node has no descriptor, process or space left: no fault of the session
                _back_off(state, turn, session, _NODE_BACK_OFF_MS)
    application = state.applications.get(session.record.spec.application)
    if exit is not None and exit.left and not session.open and application is not None:
        state.deadlines.set(("release", executor.id), turn.now_ms + application.record.spec.delay_release_ms)
    else:
        remove(state, turn, executor)
    state.touch(session)
    state.replan = True


def remove(state: State, turn: Turn, executor: Executor) -> None:
    """An idle executor gives up its place on the node."""
    executor.move(ExecutorState.RELEASED, turn.now_ms)
    state.deadlines.drop(("release", executor.id))
    del state.executors[executor.id]
    del executor.node.executors[executor.id]


def _blame_somebody(state: State, turn: Turn, session: Session, spans: list[Span]) -> list[Span]:
    """An executor has ended by itself, and nobody knows what it ran: cut out whom to charge, if it is time for that.

    A service can spoil what its process shares with the node, and would be given out for ever.
    """
    if not spans:
        return []
    session.unexplained_ends += 1
    again = min(session.unexplained_ends, MAX_UNEXPLAINED_ENDS) - 1
    if again:
        _back_off(state, turn, session, _FIRST_BACK_OFF_MS << again)
    first = spans[0].first
    return cut(spans, first, first + 1) if session.unexplained_ends >= MAX_UNEXPLAINED_ENDS else []


def _back_off(state: State, turn: Turn, session: Session, delay_ms: int) -> None:
    session.start_after_ms = turn.now_ms + delay_ms
    state.deadlines.set(("start", session.record.number), session.start_after_ms)


def _count_death(
    state: State, turn: Turn, session: Session, task: int, spans: list[Span], exit: ExecutorExited
) -> None:
    deaths = session.deaths.get(task, 0) + 1
    if deaths >= MAX_TASK_DEATHS:
        how = f"signal {exit.signal}" if exit.signal else f"exit code {exit.exit_code}"
        when = "while it ran this task, or held it"
        failure = FailureRecord(f"the executor ended with {how} {when}, {deaths} times in all", type=EXECUTOR_DIED)
        session.deaths[task] = deaths
        record_runs(state, turn, session, spans, TaskPlace.HELD, TaskState.FAILED, failure.encode())
        return
    session.deaths[task] = deaths
    turn.writes.append(PutDeaths(DeathsRecord(session=session.record.number, task=task, count=deaths)))
    put_back(state, turn, session, spans)


def _count_host_end(
    state: State, turn: Turn, session: Session, task: int, spans: list[Span], exit: ExecutorExited
) -> None:
    """The executor went with its host: whoever ran there is a suspect, and is given more trust than after a death."""
    ends = session.host_ends[task] = session.host_ends.get(task, 0) + 1
    if ends >= MAX_HOST_ENDS:
        text = f"the process that its node forks executors from ended while this task ran, {ends} times in all"
        failure = FailureRecord(text, type=EXECUTOR_DIED)
        record_runs(state, turn, session, spans, TaskPlace.HELD, TaskState.FAILED, failure.encode())
    else:
        put_back(state, turn, session, spans)


def _start_failed(state: State, turn: Turn, session: Session, exit: ExecutorExited) -> None:
    """Starting or session enter failed: try again with back-off; after too many in a row the tasks fail."""
    failure = FailureRecord.decode(exit.failure) if exit.failure else _exit_failure(exit)
    session.start_failures += 1
    delay = _FIRST_BACK_OFF_MS << (session.start_failures - 1)
    if session.start_failures >= MAX_START_FAILURES and not session.unaccounted:
        why = f"{failure.type}: {failure.message}" if failure.type else failure.message
        text = f"no executor could start, {MAX_START_FAILURES} times in a row: {why}"
        reason = FailureRecord(text, type=NO_EXECUTOR, traceback=failure.traceback)
        record_runs(state, turn, session, session.queue.clear(), TaskPlace.QUEUED, TaskState.FAILED, reason.encode())
        session.start_failures = 0
        delay = 1_000
    _back_off(state, turn, session, delay)


def _exit_failure(exit: ExecutorExited) -> FailureRecord:
    if exit.signal:
        return FailureRecord(f"the executor was ended by signal {exit.signal} before session enter returned")
    return FailureRecord(f"the executor exited with code {exit.exit_code} before session enter returned")

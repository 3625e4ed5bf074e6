"""Placement: from the state to the scheduler's view, and from its plan to bindings."""

from flame.core.control.entities import Binding, Executor, Node, Session
from flame.core.control.executors import leave, remove
from flame.core.control.sessions import announce
from flame.core.control.state import State, Turn
from flame.core.scheduling.plan import plan
from flame.core.scheduling.view import Bind, ExecutorView, NodeView, SessionView, View
from flame.model.limits import ROTATION_MS, UNFIT_WARNING_MS
from flame.model.node_messages import BindExecutor
from flame.model.records import BindingRecord, PutBinding
from flame.model.resources import Resources, round_bytes
from flame.model.states import ExecutorState


def notice_demand(state: State, session: Session) -> None:
    """Ask for a new plan if the session can use more executors than it has and has not asked for them yet."""
    wanted = session.wanted
    session.wanted = wants(state, session)
    more = session.wanted != wanted and session.wanted > session.staying
    less = session.wanted < wanted and state.contended
    state.replan = state.replan or more or less


def wants(state: State, session: Session) -> int:
    """How many executors the session can use now: one per unfinished task, within its limits and the nodes' room."""
    if not session.open:
        return 0
    spec = session.record.spec
    application = state.applications.get(spec.application)
    most = state.places
    limits = (spec.max_instances, application.record.spec.max_instances if application else None)
    for limit in limits:
        if limit is not None:
            # One that is on its way out is a process still, and counts until its exit.
            leaving = sum(binding.leaving and binding.exit is None for binding in session.bindings.values())
            most = min(most, max(0, limit - leaving))
    return min(most, max(spec.min_instances, session.unfinished))


def _look(state: State, session: Session) -> None:
    """Note what a session wants now; what all have used is added up to now.

    One that becomes active starts just behind the others: its turn is soon, but it has no old claims.
    """
    session.wanted = wants(state, session)
    active = session.wanted > 0
    if active and not session.active:
        others = [other.used_ms for other in state.live.values() if other.active]
        if others:
            session.used_ms = max(session.used_ms, min(others) - ROTATION_MS - 1)
    session.active = active


def _forgive(state: State) -> None:
    """Nobody waited since the last plan: whoever had much of what was free owes nothing to those who wanted less."""
    holders = [session for session in state.live.values() if session.bindings or session.active]
    least_ms = min((session.used_ms for session in holders), default=0)
    for session in holders:
        session.used_ms = least_ms


def replan(state: State, turn: Turn) -> None:
    """Let the scheduler decide, and do what it says."""
    state.replan = False
    for session in state.live.values():
        session.bill(turn.now_ms)
    if not state.contended:
        _forgive(state)
    for session in state.live.values():
        _look(state, session)
    view = view_of(state, turn.now_ms)
    decided = plan(view)
    state.contended = decided.contended
    for executor_id in decided.remove:
        remove(state, turn, state.executors[executor_id])
    for bind in decided.bind:
        _bind(state, turn, bind)
    for executor_id in decided.unbind:
        binding = state.executors[executor_id].binding
        if binding is not None:
            leave(state, turn, binding)
    nodes = [node for node in state.nodes.values() if node.link]
    for session in state.live.values():
        if session.open:
            _check_fit(state, turn, session, nodes)
    if decided.contended:
        state.deadlines.set(("rotate", 0), turn.now_ms + ROTATION_MS)


def view_of(state: State, now_ms: int) -> View:
    """What the scheduler may see of the state."""
    sessions = []
    for session in state.live.values():
        count = wants(state, session)
        if count or session.bindings:
            view = SessionView(
                number=session.record.number,
                priority=session.record.spec.priority,
                resources=session.resources,
                least=min(count, session.record.spec.min_instances),
                wants=count,
                used_ms=session.used_ms,
                startable=session.start_after_ms <= now_ms and not session.unaccounted,
            )
            sessions.append(view)
    executors = []
    for executor in state.executors.values():
        binding = executor.binding
        executors.append(
            ExecutorView(
                id=executor.id,
                node=executor.node.name,
                resources=executor.resources,
                session=binding.session.record.number if binding else 0,
                idle=binding is not None and not binding.held and binding.entered,
                leaving=binding is not None and not binding.stays,
            )
        )
    nodes = [
        NodeView(name=node.name, capacity=node.capacity, max_executors=node.most_executors)
        for node in state.nodes.values()
        if node.link
    ]
    return View(sessions=tuple(sessions), executors=tuple(executors), nodes=tuple(nodes), rotation_ms=ROTATION_MS)


def _bind(state: State, turn: Turn, bind: Bind) -> None:
    session, node = state.sessions[bind.session], state.nodes[bind.node]
    number = state.next_attempt()
    if bind.executor:
        executor = state.executors[bind.executor]
        state.deadlines.drop(("release", executor.id))
    else:
        executor = _new_executor(state, turn, node, session.resources, number)
    executor.move(ExecutorState.BINDING, turn.now_ms)
    executor.application = session.record.spec.application
    binding = Binding(executor=executor, session=session, number=number, turn=state.turn, since_ms=turn.now_ms)
    executor.binding = binding
    session.bindings[executor.id] = binding
    record = BindingRecord(
        executor=executor.id, node=node.name, session=bind.session, binding=number, created_ms=turn.now_ms
    )
    turn.writes.append(PutBinding(record))
    application = state.applications[session.record.spec.application]
    message = BindExecutor(
        executor=executor.id,
        binding=number,
        session=bind.session,
        session_id=session.record.name,
        application=session.record.spec.application,
        spec=application.record.spec,
        resources=executor.resources,
        start_timeout_ms=state.settings.start_timeout_ms,
        enter_timeout_ms=state.settings.enter_timeout_ms,
    )
    turn.node(node, message)


def _new_executor(state: State, turn: Turn, node: Node, resources: Resources, number: int) -> Executor:
    executor = Executor(
        id=f"{number >> 32}-{number & 0xFFFFFFFF}",
        node=node,
        resources=resources,
        state=ExecutorState.VOID,
        since_ms=turn.now_ms,
    )
    state.executors[executor.id] = executor
    node.executors[executor.id] = executor
    return executor


def _check_fit(state: State, turn: Turn, session: Session, nodes: list[Node]) -> None:
    """Nodes may have come or gone: warn in a while if the session fits on none, take the warning back if it does."""
    name = ("unfit", session.record.number)
    problem = _misfit(session, nodes)
    if not problem:
        state.deadlines.drop(name)
        if session.warning:
            _warn(turn, session, "")
    elif not session.warning:
        if name not in state.deadlines:
            state.deadlines.set(name, turn.now_ms + UNFIT_WARNING_MS)
    elif problem != session.warning:
        _warn(turn, session, problem)


def on_unfit_deadline(state: State, turn: Turn, session: Session) -> None:
    """The session has had time to find a node: warn if it fits none."""
    problem = _misfit(session, [node for node in state.nodes.values() if node.link])
    if session.open and problem and not session.warning:
        _warn(turn, session, problem)


def _misfit(session: Session, nodes: list[Node]) -> str:
    """Why no node, however empty, takes an executor of the session; empty if one does."""
    if any(session.resources.fits(node.capacity) for node in nodes):
        return ""
    if not nodes:
        return "no node is ready: start an executor manager, or wait for it to come back"
    largest = max(nodes, key=lambda node: (node.capacity.cpu, node.capacity.memory_bytes, node.capacity.gpu))
    asked, there = _readable(session.resources, largest.capacity)
    return (
        f"no node fits: each executor asks for {asked}, the largest of {len(nodes)} nodes ({largest.name}) has {there}"
    )


def _readable(*several: Resources) -> list[str]:
    """Resources with their memory rounded, or exact where rounded ones could not be told apart."""
    rounded = [round_bytes(resources.memory_bytes) for resources in several]
    if len(set(rounded)) < len(rounded):
        return [str(resources) for resources in several]
    return [f"cpu={each.cpu},mem={memory},gpu={each.gpu}" for each, memory in zip(several, rounded, strict=True)]


def _warn(turn: Turn, session: Session, warning: str) -> None:
    """Set or clear the session's warning and tell its clients."""
    session.warning = warning
    announce(turn, session)

"""Recovery: from what the store holds to the state of a new session manager."""

from flame.core.control.entities import Application, Binding, Block, Executor, Node, Session, Settings
from flame.core.control.queue import Chunk, Span
from flame.core.control.state import State
from flame.core.control.transitions import TaskPlace
from flame.kernel.ranges import RangeSet
from flame.model.limits import BLOCK_TASKS, LEASE_MARGIN_MS, RECONNECT_GRACE_MS
from flame.model.records import Snapshot
from flame.model.states import ExecutorState, TaskState


def recover(snapshot: Snapshot, settings: Settings, epoch: int, now_ms: int) -> State:
    """The state that a store holds: pending tasks are chunks minus segments, and bound executors are to be heard of."""
    state = State(settings=settings, epoch=epoch, started_ms=now_ms, last_session=snapshot.last_session)
    for application in snapshot.applications:
        state.applications[application.name] = Application(record=application)
    for record in snapshot.sessions:
        session = Session(record=record, resources=record.spec.resources or settings.default_resources)
        session.unbilled_since_ms = now_ms
        state.sessions[record.number] = state.sessions_by_name[record.name] = session
        used = state.applications.get(record.spec.application)
        if session.open and used is not None:
            used.open_sessions += 1
    _recover_blocks(state, snapshot)
    done = _recover_outcomes(state, snapshot)
    _recover_queues(state, snapshot, done)
    for death in snapshot.deaths:
        owner = state.sessions.get(death.session)
        if owner is not None and death.task not in done.get(death.session, RangeSet()):
            owner.deaths[death.task] = death.count
    _recover_bindings(state, snapshot, now_ms)
    for session in state.sessions.values():
        if session.open or session.bindings or session.queue.tasks:
            state.live[session.record.number] = session
            state.touch(session)
    state.replan = True
    if snapshot.last_session:
        # A purge may have been interrupted. Whoever connects again comes first.
        state.deadlines.set(("purge", 0), now_ms + RECONNECT_GRACE_MS)
    if snapshot.bindings:
        state.deadlines.set(("grace", 0), now_ms + RECONNECT_GRACE_MS)
    return state


def _recover_blocks(state: State, snapshot: Snapshot) -> None:
    for record in snapshot.blocks:
        session = state.sessions.get(record.session)
        if session is None:
            continue
        block = Block(first=record.first, key=record.key, next_id=record.first)
        session.blocks[record.first] = block
        if record.key:
            state.blocks_by_key[record.key] = (session, block)
        else:
            session.own_block = block


def _recover_outcomes(state: State, snapshot: Snapshot) -> dict[int, RangeSet]:
    """Count what is terminal: it was moved there before this start."""
    done: dict[int, RangeSet] = {}
    for segment in snapshot.segments:
        session = state.sessions.get(segment.session)
        if session is None:
            continue
        done.setdefault(segment.session, RangeSet()).add(segment.first, segment.first + segment.count)
        session.last_sequence = max(session.last_sequence, segment.sequence)
        states = segment.states or bytes([segment.state])
        times = 1 if segment.states else segment.count
        failed, cancelled = states.count(TaskState.FAILED) * times, states.count(TaskState.CANCELLED) * times
        session.failed += failed
        session.cancelled += cancelled
        session.succeeded += segment.count - failed - cancelled
    return done


def _recover_queues(state: State, snapshot: Snapshot, done: dict[int, RangeSet]) -> None:
    """Queue what is not terminal, without payloads: they are read back when their turn comes."""
    nothing = RangeSet()
    for header in snapshot.chunks:
        session = state.sessions.get(header.session)
        if session is None:
            continue
        end = header.first + header.count
        block = session.blocks[header.first - (header.first - 1) % BLOCK_TASKS]
        block.next_id = max(block.next_id, end)
        gaps = list(done.get(header.session, nothing).missing(header.first, end))
        if not gaps:
            continue
        live = sum(high - low for low, high in gaps)
        tail = session.queue.spans[-1] if session.queue.spans else None
        chunk = tail.chunk if tail else None
        if chunk is not None and chunk.accepts(header.first, header.count, header.nbytes, header.attributes):
            chunk.count += header.count
            chunk.nbytes += header.nbytes
            chunk.live += live
        else:
            chunk = Chunk(header.first, header.count, [], [], header.nbytes, 0, live, header.attributes, resident=False)
        session.spilled = True
        for low, high in gaps:
            session.queue.append(Span(chunk, low, high - low))
        session.move(None, TaskPlace.QUEUED, live)


def _recover_bindings(state: State, snapshot: Snapshot, now_ms: int) -> None:
    """Executors that were bound when the session manager ended: they are waited for, with what they hold."""
    for record in snapshot.bindings:
        session = state.sessions.get(record.session)
        if session is None:
            continue
        node = state.nodes.setdefault(record.node, Node(name=record.node))
        node.lease_end_ms = now_ms + state.settings.lease_ms + LEASE_MARGIN_MS
        state.deadlines.set(("lease", node.name), node.lease_end_ms)
        executor = Executor(
            id=record.executor,
            node=node,
            resources=session.resources,
            state=ExecutorState.BINDING if session.open else ExecutorState.UNBINDING,
            since_ms=now_ms,
            application=session.record.spec.application,
        )
        binding = Binding(executor=executor, session=session, number=record.binding, turn=0, since_ms=now_ms)
        binding.leaving = not session.open
        executor.binding = binding
        state.executors[executor.id] = node.executors[executor.id] = executor
        session.bindings[executor.id] = binding
        session.unaccounted[executor.id] = None

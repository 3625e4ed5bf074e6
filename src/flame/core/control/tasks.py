"""Tasks come in: chunks, single tasks, cancels, watches."""

from flame.core.control.effects import Answer, TellWatch
from flame.core.control.entities import Attachment, Block, PendingCancel, Session
from flame.core.control.events import TaskCreateRequested, TaskWatchEnded, TaskWatchRequested
from flame.core.control.outcomes import record_runs
from flame.core.control.queries import unfinished_state, was_submitted
from flame.core.control.queue import Chunk, Span
from flame.core.control.state import State, Turn
from flame.core.control.transitions import TaskPlace
from flame.model.client_messages import CancelTasks, ChunkAcknowledged, ChunkRefused, SubmitChunk, TasksCancelled
from flame.model.errors import (
    FailedPrecondition,
    FlameError,
    InvalidArgument,
    NotFound,
    Rejection,
    ResourceExhausted,
    TooLarge,
)
from flame.model.executor_messages import RetractTasks
from flame.model.limits import BLOCK_TASKS, MAX_CHUNK_TASKS
from flame.model.ranges import HeldRange, Range
from flame.model.records import BlockRecord, PutBlock
from flame.model.states import TaskState


def on_submit_chunk(state: State, turn: Turn, link: int, message: SubmitChunk) -> None:
    """A chunk of a submitter: accepted where its block goes on, acknowledged again where it was stored before."""
    attachment = state.attachments.get((link, message.attachment))
    if attachment is None:
        return
    block, session = attachment.block, attachment.session
    try:
        if block is None:
            raise FailedPrecondition(f"session {session.record.name}: attached for reading, not for submitting")
        if message.first + message.count <= block.next_id and message.first >= block.first:
            turn.client(link, ChunkAcknowledged(attachment=attachment.number, next_id=block.next_id))
            return
        _check_chunk(state, session, block, message)
    except FlameError as error:
        if block is not None:
            block.ended = True
        refusal = ChunkRefused(attachment=attachment.number, first=message.first, error=Rejection.of(error))
        turn.client(link, refusal)
        return
    soon = not session.queue.tasks  # the tasks are likely to be run at once, and what runs them should come first
    enqueue(state, turn, session, message.first, message.count, message.lengths, message.blob, message.attributes)
    block.next_id = message.first + message.count
    turn.client(link, ChunkAcknowledged(attachment=attachment.number, next_id=block.next_id), lazy=soon)


def _check_chunk(state: State, session: Session, block: Block, message: SubmitChunk) -> None:
    name = session.record.name
    if block.ended:
        raise FailedPrecondition(f"session {name}: an earlier chunk of this submitter was refused", hint="attach again")
    if message.first != block.next_id:
        raise InvalidArgument(f"session {name}: a chunk begins at task {message.first}, expected {block.next_id}")
    if not 1 <= message.count <= MAX_CHUNK_TASKS or message.first + message.count > block.end:
        raise InvalidArgument(f"session {name}: a chunk of {message.count} tasks; 1 to {MAX_CHUNK_TASKS} are allowed")
    if len(message.lengths) != 4 * message.count:
        raise InvalidArgument(f"session {name}: {len(message.lengths)} bytes of lengths for {message.count} tasks")
    table = memoryview(message.lengths).cast("I")
    if sum(table) != len(message.blob):
        raise InvalidArgument(f"session {name}: lengths add up to {sum(table)}, the blob has {len(message.blob)} bytes")
    limit = state.settings.max_task_bytes
    if len(message.blob) > limit and max(table) > limit:
        raise TooLarge(
            f"session {name}: an input of {max(table)} bytes is over the limit of {limit} bytes per task",
            hint="put large data into a file and pass its path, or raise limits.max_task_bytes",
        )
    check_accepting(state, session)


def check_accepting(state: State, session: Session) -> None:
    """Raise unless the session takes new tasks now."""
    if not session.open:
        raise FailedPrecondition(f"session {session.record.name} is closed", hint="create a new session")
    if state.low_space:
        raise ResourceExhausted(
            f"the store has {state.free_bytes} bytes left, less than low_space_bytes "
            f"({state.settings.low_space_bytes}): new tasks are refused",
            hint="free disk space or delete closed sessions, then submit again",
        )


def enqueue(
    state: State, turn: Turn, session: Session, first: int, count: int, lengths: bytes, blob: bytes, attributes: bytes
) -> None:
    """Store accepted tasks and put them at the end of the queue; payloads over the bound stay in the store only."""
    turn.store_chunk(session.record.number, first, count, lengths, blob, attributes)
    spans = session.queue.spans
    chunk = spans[-1].chunk if spans else None
    resident = state.resident_bytes + len(blob) <= state.settings.resident_input_bytes
    merged = chunk is not None and (resident or not chunk.resident)
    if chunk is not None and merged and chunk.accepts(first, count, len(blob), attributes):
        chunk.append(count, lengths, blob, state.turn)
    else:
        parts = ([lengths], [blob]) if resident else ([], [])
        chunk = Chunk(first, count, *parts, len(blob), state.turn, count, attributes, resident)
    if chunk.resident:
        state.resident_bytes += len(blob)
    else:
        session.spilled = True
    session.queue.append(Span(chunk, first, count))
    session.move(None, TaskPlace.QUEUED, count)
    state.touch(session)


def on_task_create(state: State, turn: Turn, event: TaskCreateRequested) -> None:
    """One task of a unary client, in the session manager's own block."""
    session = state.session_named(event.session)
    check_accepting(state, session)
    limit = state.settings.max_task_bytes
    if len(event.input) > limit:
        raise TooLarge(
            f"session {event.session}: an input of {len(event.input)} bytes is over the limit of {limit} bytes",
            hint="put large data into a file and pass its path, or raise limits.max_task_bytes",
        )
    block = session.own_block or take_block(turn, session, "")
    session.own_block = block
    task = block.next_id
    enqueue(state, turn, session, task, 1, len(event.input).to_bytes(4, "little"), event.input, b"")
    block.next_id += 1
    turn.after.append(Answer(event.request, session=session.record.number, task=task))


def take_block(turn: Turn, session: Session, key: str) -> Block:
    """Grant the next block of ids: whoever is first gets 1, 2, 3, ..."""
    first = 1 + len(session.blocks) * BLOCK_TASKS
    block = Block(first=first, key=key, next_id=first)
    session.blocks[first] = block
    turn.writes.append(PutBlock(BlockRecord(session=session.record.number, first=first, key=key)))
    return block


def on_cancel_tasks(state: State, turn: Turn, link: int, message: CancelTasks) -> None:
    """Cancel what is queued at once; ask executors to give back what they have not started."""
    attachment = state.attachments.get((link, message.attachment))
    if attachment is None:
        return
    if attachment.session.unaccounted:
        attachment.session.postponed.append((attachment, message))
    else:
        _cancel(state, turn, attachment, message)


def resume_cancels(state: State, turn: Turn, session: Session) -> None:
    """It is known again what is running: carry out the cancels that waited for it."""
    postponed, session.postponed = session.postponed, []
    for attachment, message in postponed:
        _cancel(state, turn, attachment, message)


def _cancel(state: State, turn: Turn, attachment: Attachment, message: CancelTasks) -> None:
    session = attachment.session
    first, end = message.first, message.first + max(0, message.count)
    queued = session.queue.remove(first, end)
    record_runs(state, turn, session, queued, TaskPlace.QUEUED, TaskState.CANCELLED)
    state.touch(session)
    cancel = PendingCancel(
        attachment=attachment,
        request=message.request,
        first=first,
        end=end,
        waiting=[],
        cancelled=[Range(span.first, span.count) for span in queued],
    )
    for binding in session.bindings.values():
        wanted = [
            HeldRange(attempt, max(first, span.first), min(end, span.end) - max(first, span.first))
            for attempt, held in binding.held.items()
            for span in held.spans
            if first < span.end and span.first < end
        ]
        if wanted and binding.giving_back:
            # It was told to leave: what it has not started comes back as the answer to that, which has number 0.
            cancel.waiting.append(f"{binding.number}/0")
        elif wanted and binding.link and not binding.leaving:
            request = state.next_attempt()
            cancel.waiting.append(f"{binding.number}/{request}")
            message_out = RetractTasks(request=request, ranges=tuple(wanted))
            turn.executor(binding, message_out, stored=False)
    session.cancels.append(cancel)
    finish_cancels(turn, session, "")


def finish_cancels(turn: Turn, session: Session, answered: str) -> None:
    """An executor answered a retract (or is gone): answer the cancels that wait for nothing more.

    Args:
        answered: `binding/request`, or `binding/` for all of a binding, or empty for none.
    """
    for cancel in list(session.cancels):
        if answered:
            cancel.waiting = [
                name
                for name in cancel.waiting
                if not (name == answered or (answered[-1] == "/" and name.startswith(answered)))
            ]
        if not cancel.waiting:
            session.cancels.remove(cancel)
            done = TasksCancelled(
                attachment=cancel.attachment.number, request=cancel.request, ranges=tuple(cancel.cancelled)
            )
            turn.client(cancel.attachment.link, done)


def on_task_watch(state: State, turn: Turn, event: TaskWatchRequested) -> None:
    """Watch a task: tell its state now, and again until it is terminal."""
    session = state.session_named(event.session)
    if not was_submitted(session, event.task):
        raise NotFound(f"task {event.task} of session {event.session} does not exist")
    current = unfinished_state(session, event.task)
    if current is not None:
        session.watches.setdefault(event.task, []).append(event.watch)
        state.watches[event.watch] = (session, event.task)
    turn.after.append(TellWatch(event.watch, session.record.number, event.task, last=current is None))


def on_task_watch_ended(state: State, turn: Turn, event: TaskWatchEnded) -> None:
    """The watcher went away."""
    found = state.watches.pop(event.watch, None)
    if found is not None:
        session, task = found
        watches = session.watches.get(task, [])
        if event.watch in watches:
            watches.remove(event.watch)
        if not watches:
            session.watches.pop(task, None)

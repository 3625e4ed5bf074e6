"""Outcomes: tasks become terminal, segments are stored, results go to the clients that want them."""

from collections.abc import Iterable, Sequence

from flame.core.control.effects import ReadSegments, TellWatch
from flame.core.control.entities import Attachment, Session
from flame.core.control.queue import Span
from flame.core.control.state import State, Turn
from flame.core.control.transitions import TaskPlace
from flame.model.client_messages import AcknowledgeSegments, Segment
from flame.model.ranges import Range
from flame.model.records import PutSegment, SegmentRecord
from flame.model.states import TaskState


def record(
    state: State,
    turn: Turn,
    session: Session,
    spans: Iterable[Span],
    was: TaskPlace,
    outcome: TaskState,
    columns: tuple[bytes, bytes, bytes] = (b"", b"", b""),
) -> None:
    """Store that the tasks of `spans` (contiguous, taken from where they were by the caller) are terminal.

    Args:
        columns: their states, if they differ; lengths; and blob.
    """
    states, lengths, blob = columns
    first, count = 0, 0
    for span in spans:
        first = first or span.first
        count += span.count
        release(state, span)
    session.last_sequence += 1
    segment = SegmentRecord(
        session=session.record.number,
        sequence=session.last_sequence,
        first=first,
        count=count,
        state=outcome,
        states=states,
        lengths=lengths,
        blob=blob,
        finished_ms=turn.now_ms,
    )
    turn.writes.append(PutSegment(segment))
    turn.nbytes += len(blob)
    failed = states.count(TaskState.FAILED) if states else count * (outcome is TaskState.FAILED)
    cancelled = states.count(TaskState.CANCELLED) if states else count * (outcome is TaskState.CANCELLED)
    for place, part in (
        (TaskPlace.SUCCEED, count - failed - cancelled),
        (TaskPlace.FAILED, failed),
        (TaskPlace.CANCELLED, cancelled),
    ):
        if part:
            session.move(was, place, part)
    for counts in (session.deaths, session.host_ends):
        if counts:
            for task in [task for task in counts if first <= task < first + count]:
                del counts[task]
    for attachment in session.attachments:
        if attachment.block is None or attachment.block.first <= first < attachment.block.end:
            _deliver(state, turn, attachment, segment)
    if session.watches:
        for task in [task for task in session.watches if first <= task < first + count]:
            for watch in session.watches.pop(task):
                state.watches.pop(watch, None)
                turn.after.append(TellWatch(watch, session.record.number, task, last=True))


def release(state: State, span: Span) -> None:
    """Forget the chunk once its last task is terminal."""
    chunk = span.chunk
    chunk.live -= span.count
    if chunk.live == 0 and chunk.resident:
        state.resident_bytes -= chunk.nbytes
        chunk.spill()


def record_runs(
    state: State,
    turn: Turn,
    session: Session,
    spans: Sequence[Span],
    was: TaskPlace,
    outcome: TaskState,
    shared: bytes = b"",
) -> None:
    """Store one outcome for many tasks: a segment for each contiguous run, ascending.

    Args:
        was: where they were until the caller took them.
        shared: the payload of every one of them, stored once per segment.
    """
    run: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        if run and run[-1].first + run[-1].count != span.first:
            record(state, turn, session, run, was, outcome, (b"", b"", shared))
            run = []
        run.append(span)
    if run:
        record(state, turn, session, run, was, outcome, (b"", b"", shared))


def put_back(state: State, turn: Turn, session: Session, spans: list[Span]) -> None:
    """Return unstarted tasks of an executor to the queue; cancel those that a cancel waits for or nobody wants more."""
    for cancel in session.cancels:
        inside: list[Span] = []
        rest: list[Span] = []
        for span in spans:
            if cancel.first < span.end and span.first < cancel.end:
                inside.append(_inside(span, cancel.first, cancel.end))
                rest.extend(_outside(span, cancel.first, cancel.end))
            else:
                rest.append(span)
        if inside:
            cancel.cancelled.extend(Range(span.first, span.count) for span in inside)
            record_runs(state, turn, session, inside, TaskPlace.HELD, TaskState.CANCELLED)
        spans = rest
    if session.open:
        if spans:  # counted first: the queue lets spans grow into each other
            session.move(TaskPlace.HELD, TaskPlace.QUEUED, sum(span.count for span in spans))
        session.queue.put_back(spans)
        session.spilled = session.spilled or not all(span.chunk.resident for span in spans)
    else:
        record_runs(state, turn, session, spans, TaskPlace.HELD, TaskState.CANCELLED)
    state.touch(session)


def _outside(span: Span, first: int, end: int) -> list[Span]:
    parts = []
    if span.first < first:
        parts.append(Span(span.chunk, span.first, first - span.first))
    if end < span.end:
        parts.append(Span(span.chunk, end, span.end - end))
    return parts


def _inside(span: Span, first: int, end: int) -> Span:
    low, high = max(first, span.first), min(end, span.end)
    return Span(span.chunk, low, high - low)


def _deliver(state: State, turn: Turn, attachment: Attachment, segment: SegmentRecord) -> None:
    """Send a new segment, unless the client has to catch up from the store first."""
    attachment.due = segment.sequence
    if attachment.behind or attachment.unseen_bytes >= state.settings.result_window_bytes:
        attachment.behind = True
        return
    send(turn, attachment, segment)


def send(turn: Turn, attachment: Attachment, segment: SegmentRecord) -> None:
    """Send a segment to a client and account for it."""
    nbytes = segment.window_bytes
    attachment.unseen.append((segment.sequence, nbytes))
    attachment.unseen_bytes += nbytes
    attachment.sent = segment.sequence
    message = Segment(
        attachment=attachment.number,
        sequence=segment.sequence,
        first=segment.first,
        count=segment.count,
        state=segment.state,
        states=segment.states,
        lengths=segment.lengths,
        blob=segment.blob,
        finished_ms=segment.finished_ms,
    )
    turn.client(attachment.link, message)


def on_acknowledge_segments(state: State, turn: Turn, link: int, message: AcknowledgeSegments) -> None:
    """The client has taken results: its window opens."""
    attachment = state.attachments.get((link, message.attachment))
    if attachment is None:
        return
    unseen = attachment.unseen
    while unseen and unseen[0][0] <= message.sequence:
        attachment.unseen_bytes -= unseen.popleft()[1]
    catch_up(state, turn, attachment)


def catch_up(state: State, turn: Turn, attachment: Attachment) -> None:
    """Read more results for a client that is behind, as far as its window allows."""
    if not attachment.behind or attachment.reading:
        return
    if attachment.sent >= attachment.due:
        attachment.behind = False
        return
    window = state.settings.result_window_bytes
    room = window - attachment.unseen_bytes
    if room < window // 2:
        return
    attachment.reading = True
    turn.after.append(
        ReadSegments(
            link=attachment.link,
            attachment=attachment.number,
            session=attachment.session.record.number,
            after=attachment.sent,
            through=attachment.session.last_sequence,
            block=attachment.block.first if attachment.block else 0,
            limit_bytes=room,
        )
    )


def on_segments_read(
    state: State, turn: Turn, link: int, number: int, segments: Sequence[SegmentRecord], through: int
) -> None:
    """Results read from the store: send them, and go on if there is more."""
    attachment = state.attachments.get((link, number))
    if attachment is None or not attachment.reading:
        return
    attachment.reading = False
    for segment in segments:
        send(turn, attachment, segment)
    if not segments:
        attachment.sent = max(attachment.sent, through)
    catch_up(state, turn, attachment)

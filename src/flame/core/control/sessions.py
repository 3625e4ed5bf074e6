"""Sessions: create, attach, close, delete; what their clients are told."""

from flame.core.control.effects import Answer, PurgeRows
from flame.core.control.entities import Attachment, Block, Session
from flame.core.control.events import SessionCloseRequested, SessionCreateRequested, SessionDeleteRequested
from flame.core.control.executors import leave
from flame.core.control.outcomes import catch_up, record_runs
from flame.core.control.state import State, Turn
from flame.core.control.tasks import check_accepting, take_block
from flame.core.control.transitions import SESSIONS, TaskPlace
from flame.model.client_messages import AttachmentEnded, AttachSession, DetachSession, SessionAttached, SessionChanged
from flame.model.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FlameError,
    InvalidArgument,
    NotFound,
    Rejection,
    ResourceExhausted,
    TooLarge,
)
from flame.model.limits import (
    MAX_ATTACHMENTS_PER_CONNECTION,
    MAX_COMMON_DATA_BYTES,
    PURGE_PAUSE_MS,
    UNFIT_WARNING_MS,
)
from flame.model.records import DeleteSession, PutSession, SessionRecord
from flame.model.resources import Resources
from flame.model.specs import SessionSpec, check_session_id
from flame.model.states import ApplicationState, TaskState

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def create(state: State, turn: Turn, name: str, spec: SessionSpec) -> Session:
    """Create a session; an empty name asks for one made of the application's name and the session's number."""
    application = state.applications.get(spec.application)
    if application is None:
        raise NotFound(
            f"application {spec.application!r} is not registered", hint="register it first; `flmctl list -a` shows all"
        )
    if application.record.state is not ApplicationState.ENABLED:
        raise FailedPrecondition(f"application {spec.application!r} is disabled")
    resources = spec.resources or state.settings.default_resources
    _check_spec(spec, resources)
    if state.low_space:
        raise ResourceExhausted("the store is nearly full: no session is created", hint="free disk space")
    state.last_session += 1
    name = check_session_id(name or _made_name(state, spec.application, state.last_session))
    if name in state.sessions_by_name:
        raise AlreadyExists(f"session {name!r} exists already", hint="open it, or choose another id")
    record = SessionRecord(number=state.last_session, name=name, spec=spec, created_ms=turn.now_ms)
    session = Session(record=record, resources=resources)
    session.unbilled_since_ms = turn.now_ms
    application.open_sessions += 1
    state.sessions[record.number] = state.live[record.number] = session
    state.sessions_by_name[name] = session
    turn.writes.append(PutSession(record))
    state.replan = state.replan or spec.min_instances > 0
    state.deadlines.set(("unfit", record.number), turn.now_ms + UNFIT_WARNING_MS)
    return session


def _check_spec(spec: SessionSpec, resources: Resources) -> None:
    if resources.cpu < 1:
        raise InvalidArgument(
            f"each executor would ask for {resources}, so that any number of them fits on a node",
            hint="ask for at least cpu=1",
        )
    if spec.common_data is not None and len(spec.common_data) > MAX_COMMON_DATA_BYTES:
        raise TooLarge(
            f"common data of {len(spec.common_data)} bytes is over the limit of {MAX_COMMON_DATA_BYTES} bytes",
            hint="pass a path to a file instead",
        )
    most = spec.max_instances
    if spec.min_instances < 0 or (most is not None and (most < 1 or most < spec.min_instances)):
        raise InvalidArgument(
            f"min_instances={spec.min_instances}, max_instances={most}",
            hint="min_instances is 0 or more, max_instances at least 1 and not below it",
        )


def _made_name(state: State, application: str, number: int) -> str:
    digits = ""
    value = number
    while value or len(digits) < 6:
        value, digit = divmod(value, 36)
        digits = _ALPHABET[digit] + digits
    stem = application[:100].rstrip(".") or "session"
    while f"{stem}-{digits}" in state.sessions_by_name:
        digits += "x"
    return f"{stem}-{digits}"


def on_attach_session(state: State, turn: Turn, link: int, message: AttachSession) -> None:
    """A client attaches: to the block its key names, or to a new one."""
    number = message.attachment
    try:
        if (link, number) in state.attachments:
            raise InvalidArgument(f"attachment {number} is in use on this connection")
        if len(state.links.get(link, ())) >= MAX_ATTACHMENTS_PER_CONNECTION:
            raise ResourceExhausted(
                f"{MAX_ATTACHMENTS_PER_CONNECTION} sessions are attached to this connection already"
            )
        if not 1 <= len(message.key) <= 64:
            raise InvalidArgument("the key of an attach has 1 to 64 characters")
        session, block = _find(state, turn, message)
    except FlameError as error:
        turn.client(link, AttachmentEnded(attachment=number, error=Rejection.of(error)))
        return
    if block is not None and block.attachment is not None:
        replaced = Aborted(
            f"session {session.record.name}: another connection attached with the same key",
            hint="only one stream per submitter lives",
        )
        end_attachment(state, turn, block.attachment, replaced)
    attachment = Attachment(link=link, number=number, session=session, block=block, sent=message.after)
    if block is not None and block.next_id == block.first:
        # Nothing was submitted to it: no result so far is its own.
        attachment.sent = max(message.after, session.last_sequence)
    attachment.due = session.last_sequence
    attachment.behind = session.last_sequence > attachment.sent
    state.attachments[link, number] = attachment
    state.links.setdefault(link, {})[number] = attachment
    session.attachments.append(attachment)
    if block is not None:
        block.attachment = attachment
    attached = SessionAttached(
        attachment=number,
        session=session.record.number,
        session_id=session.record.name,
        first=block.first if block else 0,
        next_id=block.next_id if block else 0,
        last_sequence=session.last_sequence,
        state=session.record.state,
        spec=session.record.spec,
        created_ms=session.record.created_ms,
        warning=session.warning,
    )
    turn.client(link, attached)
    catch_up(state, turn, attachment)


def _find(state: State, turn: Turn, message: AttachSession) -> tuple[Session, Block | None]:
    known = state.blocks_by_key.get(message.key)
    if known is not None:
        session, block = known
        if message.session_id and session.record.name != message.session_id:
            raise InvalidArgument(f"the key belongs to session {session.record.name}, not to {message.session_id}")
        return session, block
    if message.create is not None:
        session = create(state, turn, message.session_id, message.create)
    else:
        session = state.session_named(message.session_id)
        if message.submit and not session.open:
            raise FailedPrecondition(f"session {message.session_id} is closed", hint="read its results instead")
    if not message.submit and message.create is None:
        return session, None
    check_accepting(state, session)
    block = take_block(turn, session, message.key)
    state.blocks_by_key[message.key] = (session, block)
    return session, block


def on_detach_session(state: State, turn: Turn, link: int, message: DetachSession) -> None:
    """The client leaves the session; the session goes on."""
    attachment = state.attachments.get((link, message.attachment))
    if attachment is not None:
        _forget(state, attachment)


def on_client_lost(state: State, turn: Turn, link: int) -> None:
    """The client's link is over: all its attachments end; the sessions go on."""
    for attachment in list(state.links.get(link, {}).values()):
        _forget(state, attachment)


def end_attachment(state: State, turn: Turn, attachment: Attachment, error: FlameError) -> None:
    """End an attachment from our side, saying why."""
    turn.client(attachment.link, AttachmentEnded(attachment=attachment.number, error=Rejection.of(error)))
    _forget(state, attachment)


def _forget(state: State, attachment: Attachment) -> None:
    del state.attachments[attachment.link, attachment.number]
    of_link = state.links[attachment.link]
    del of_link[attachment.number]
    if not of_link:
        del state.links[attachment.link]
    session = attachment.session
    session.attachments = [other for other in session.attachments if other is not attachment]
    session.cancels = [cancel for cancel in session.cancels if cancel.attachment is not attachment]
    session.postponed = [(owner, cancel) for owner, cancel in session.postponed if owner is not attachment]
    if attachment.block is not None and attachment.block.attachment is attachment:
        attachment.block.attachment = None


def on_session_create(state: State, turn: Turn, event: SessionCreateRequested) -> None:
    """Create a session, or take the open one with this name and an equal spec."""
    existing = state.sessions_by_name.get(event.name) if event.name else None
    if event.open_existing and existing is not None:
        if not existing.open:
            raise InvalidArgument(f"session {event.name} is closed", hint="choose another id")
        if event.spec is not None:
            _check_same(existing, event.spec)
        session = existing
    elif event.spec is None:
        session = state.session_named(event.name)
    else:
        session = create(state, turn, event.name, event.spec)
    turn.after.append(Answer(event.request, session=session.record.number))


def _check_same(session: Session, spec: SessionSpec) -> None:
    ours = session.record.spec
    pairs = {
        "application": (ours.application, spec.application),
        "resources": (ours.resources or session.resources, spec.resources or session.resources),
        "min_instances": (ours.min_instances, spec.min_instances),
        "max_instances": (ours.max_instances, spec.max_instances),
        "priority": (ours.priority, spec.priority),
    }
    for name, (have, asked) in pairs.items():
        if have != asked:
            raise InvalidArgument(f"session {session.record.name} is open with {name} {have}, not {asked}")


def on_session_close(state: State, turn: Turn, event: SessionCloseRequested) -> None:
    """Close a session: what is queued becomes Cancelled, what runs finishes; repeating it is no error."""
    session = state.session_named(event.name)
    turn.after.append(Answer(event.request, session=session.record.number))
    if session.open:
        close(state, turn, session)


def close(state: State, turn: Turn, session: Session) -> None:
    """Close an open session."""
    session.close(turn.now_ms)
    turn.finish_rows()
    turn.writes.append(PutSession(session.record))
    application = state.applications.get(session.record.spec.application)
    if application is not None:
        application.open_sessions -= 1
    if not session.unaccounted:
        record_runs(state, turn, session, session.queue.clear(), TaskPlace.QUEUED, TaskState.CANCELLED)
    session.wanted = 0
    state.deadlines.drop(("unfit", session.record.number))
    for binding in list(session.bindings.values()):
        leave(state, turn, binding)
    if not session.bindings:
        state.live.pop(session.record.number, None)
    announce(turn, session)
    state.replan = True


def announce(turn: Turn, session: Session) -> None:
    """Tell the attached clients what the session's state and warning are now."""
    for attachment in session.attachments:
        changed = SessionChanged(
            attachment=attachment.number,
            state=session.record.state,
            warning=session.warning,
            last_sequence=session.last_sequence,
        )
        turn.client(attachment.link, changed)


def on_session_delete(state: State, turn: Turn, event: SessionDeleteRequested) -> None:
    """Forget a closed session, once the executors that have finished its tasks have left it."""
    session = state.session_named(event.name)
    if session.open:
        raise FailedPrecondition(f"session {event.name} is open", hint="close it first")
    if session.unfinished:
        raise FailedPrecondition(
            f"session {event.name} still has {session.unfinished} tasks running on {len(session.bindings)} executors",
            hint="try again when they have finished",
        )
    session.deleting.append(event.request)
    if not session.bindings:
        delete(state, turn, session)


def delete(state: State, turn: Turn, session: Session) -> None:
    """Forget a session without executors and answer who asked for it; its rows are deleted in the background."""
    SESSIONS.check(session.record.state, None, session.record.name)
    requests, session.deleting = session.deleting, []
    for request in requests:
        turn.after.append(Answer(request, session=session.record.number))
    for attachment in list(session.attachments):
        end_attachment(state, turn, attachment, NotFound(f"session {session.record.name} was deleted"))
    del state.sessions[session.record.number]
    del state.sessions_by_name[session.record.name]
    for block in session.blocks.values():
        state.blocks_by_key.pop(block.key, None)
    turn.finish_rows()
    turn.writes.append(DeleteSession(session.record.number))
    purge(state, turn)


def purge(state: State, turn: Turn) -> None:
    """Begin to delete rows in the background, unless that is under way."""
    if state.purging:
        # The one under way may have seen the store as it was before this turn.
        state.deadlines.set(("purge", 0), turn.now_ms + PURGE_PAUSE_MS)
    else:
        state.purging = True
        turn.after.append(PurgeRows())


def on_rows_purged(state: State, turn: Turn, more: bool) -> None:
    """Some rows are gone, or none where the disk is full; the next ones follow in a while."""
    state.purging = False
    if more:
        state.deadlines.set(("purge", 0), turn.now_ms + PURGE_PAUSE_MS)

"""A session manager's end for tests of the client: real messages over the real frame carrier, everything in memory.

It keeps what it is told over lost links and `restart`, as a store would. Tests steer it by its attributes: what the
service does, whether acknowledgements or results are held back.
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from flame.carriers.frames import serve
from flame.carriers.port import Link
from flame.model import chunk
from flame.model.client_messages import (
    AcknowledgeSegments,
    AttachmentEnded,
    AttachSession,
    CancelTasks,
    ChunkAcknowledged,
    ChunkRefused,
    DetachSession,
    Segment,
    SessionAttached,
    SessionChanged,
    SubmitChunk,
    TasksCancelled,
)
from flame.model.errors import FailureRecord, Rejection
from flame.model.limits import BLOCK_TASKS, RESULT_WINDOW_BYTES
from flame.model.messages import Call, Hello, Message, Refused, Reply, Welcome
from flame.model.ranges import Range
from flame.model.records import ApplicationRecord, SessionRecord
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import SessionState, TaskState
from flame.wire.convert import application_spec_from_proto, application_to_proto, session_to_proto
from flame.wire.published import frontend, types

Service = Callable[[bytes], bytes | None]


class Block:
    """A submitter's block."""

    def __init__(self, first: int) -> None:
        self.first = self.next_id = first


class StoredSession:
    """A session with all its tasks and results."""

    def __init__(self, number: int, name: str, spec: SessionSpec) -> None:
        self.number, self.name, self.spec = number, name, spec
        self.state = SessionState.OPEN
        self.blocks: dict[str, Block] = {}
        self.pending: dict[int, bytes] = {}
        self.running: dict[int, bytes] = {}
        self.counts = dict.fromkeys(TaskState, 0)
        self.segments: list[Segment] = []
        self.chunks: list[tuple[int, int]] = []
        self.refuse_at = 0


class Attached:
    """An attachment of a link."""

    def __init__(self, session: StoredSession, block: Block | None, after: int) -> None:
        self.session, self.block = session, block
        self.sent = after
        self.unacknowledged: dict[int, int] = {}


class ScriptedManager:
    """The session manager's logic, without I/O: `peers` are the links that are there."""

    def __init__(self, service: Service = bytes.upper) -> None:
        self.service = service
        self.store_id, self.epoch = "store-1", 1
        self.max_task_bytes = 0
        self.applications: dict[str, ApplicationSpec] = {}
        self.sessions: dict[str, StoredSession] = {}
        self.peers: list[Peer] = []
        self.hold_acknowledgements = False
        self.hold_results = False
        self.hold_tasks = False
        self.forget = False
        self.ignored: tuple[type, ...] = ()
        self.warning = ""
        self.calls: list[str] = []
        self._keys: dict[str, str] = {}

    def session_of(self, message: AttachSession) -> StoredSession | Rejection:
        """Find or make the session of an attach."""
        name = message.session_id or self._keys.get(message.key, "")
        if message.create is not None and message.key not in self._keys:
            if message.create.application not in (*self.applications, "upper"):
                return Rejection("NOT_FOUND", f"there is no application {message.create.application!r}")
            name = name or f"session-{len(self.sessions) + 1}"
            if name in self.sessions:
                return Rejection("ALREADY_EXISTS", f"session {name} exists")
            self.sessions[name] = StoredSession(len(self.sessions) + 1, name, message.create)
            self._keys[message.key] = name
        session = self.sessions.get(name)
        if session is None:
            return Rejection("NOT_FOUND", f"there is no session {name!r}")
        if message.submit and session.state is SessionState.CLOSED and message.key not in session.blocks:
            return Rejection("FAILED_PRECONDITION", f"session {name} is closed")
        return session

    def finish(self, session: StoredSession, first: int, outcomes: list[bytes | Exception | None]) -> None:
        """Record results of [first, first + len(outcomes)) as one segment."""
        states = bytes(TaskState.FAILED if isinstance(o, Exception) else TaskState.SUCCEED for o in outcomes)
        payloads = [
            FailureRecord(str(o), type=type(o).__name__, traceback="remote").encode() if isinstance(o, Exception) else o
            for o in outcomes
        ]
        for state in states:
            session.counts[TaskState(state)] += 1
        lengths, blob = chunk.pack_optional(payloads)
        mixed = len(set(states)) > 1
        self._append(session, first, len(outcomes), TaskState(states[0]), states if mixed else b"", lengths, blob)

    def cancel(self, session: StoredSession, first: int, end: int) -> list[Range]:
        """Cancel what is pending of a range."""
        if first <= min(session.pending, default=0) and max(session.pending, default=0) < end:
            found = sorted(session.pending)
        else:
            found = [task for task in range(first, end) if task in session.pending]
        ranges: list[Range] = []
        for task in found:
            del session.pending[task]
            if ranges and ranges[-1].end == task:
                ranges[-1] = Range(ranges[-1].first, ranges[-1].count + 1)
            else:
                ranges.append(Range(task, 1))
        for part in ranges:
            session.counts[TaskState.CANCELLED] += part.count
            self._append(session, part.first, part.count, TaskState.CANCELLED, b"", b"", b"")
        return ranges

    def _append(
        self,
        session: StoredSession,
        first: int,
        count: int,
        state: TaskState,
        states: bytes,
        lengths: bytes,
        blob: bytes,
    ) -> None:
        session.segments.append(
            Segment(
                attachment=0,
                sequence=len(session.segments) + 1,
                first=first,
                count=count,
                state=state,
                states=states,
                lengths=lengths,
                blob=blob,
            )
        )

    def run_pending(self, session: StoredSession, most: int = 1 << 30) -> None:
        """Run pending tasks, lowest id first, in segments of contiguous ids."""
        while session.pending and most > 0:
            first = next(iter(session.pending))
            outcomes: list[bytes | Exception | None] = []
            nbytes = 0
            while len(outcomes) < min(most, 1024) and nbytes < 1 << 20:
                task_input = session.pending.pop(first + len(outcomes), None)
                if task_input is None:
                    break
                try:
                    outcomes.append(self.service(task_input))
                except Exception as error:
                    outcomes.append(error)
                nbytes += len(outcomes[-1]) if isinstance(outcomes[-1], bytes) else 0
            most -= len(outcomes)
            self.finish(session, first, outcomes)
        self.deliver()

    def close_session(self, session: StoredSession) -> None:
        """Close: what is pending is cancelled."""
        session.state = SessionState.CLOSED
        self.cancel(session, 0, 1 << 62)
        self.deliver()
        for peer in list(self.peers):
            peer.changed(session)

    def deliver(self) -> None:
        """Send results to whoever is attached."""
        if not self.hold_results:
            for peer in list(self.peers):
                peer.deliver()

    def acknowledge_all(self) -> None:
        """Send the acknowledgements that were held back."""
        for peer in list(self.peers):
            peer.acknowledge_all()


class Peer:
    """The session manager's end of one client's link."""

    def __init__(self, manager: ScriptedManager, send: Callable[[Message], None]) -> None:
        self.manager = manager
        self.send = send
        self.attached: dict[int, Attached] = {}
        manager.peers.append(self)

    def closed(self, reason: str) -> None:
        if self in self.manager.peers:
            self.manager.peers.remove(self)

    def received(self, message: Message) -> None:
        if isinstance(message, self.manager.ignored):
            return
        if isinstance(message, Hello):
            self._hello(message)
        elif isinstance(message, Call):
            self.send(self._call(message))
        elif isinstance(message, AttachSession):
            self._attach(message)
        elif isinstance(message, SubmitChunk):
            self._submit(message)
        elif isinstance(message, CancelTasks):
            self._cancel(message)
        elif isinstance(message, AcknowledgeSegments) and message.attachment in self.attached:
            waiting = self.attached[message.attachment].unacknowledged
            for sequence in [sequence for sequence in waiting if sequence <= message.sequence]:
                del waiting[sequence]
                if self.manager.forget:
                    segments = self.attached[message.attachment].session.segments
                    segments[sequence - 1] = msgspec.structs.replace(segments[sequence - 1], lengths=b"", blob=b"")
            self.deliver()
        elif isinstance(message, DetachSession):
            self.attached.pop(message.attachment, None)

    def _hello(self, message: Hello) -> None:
        if message.store_id and message.store_id != self.manager.store_id:
            self.send(Refused(Rejection("ABORTED", "the store is another one")))
            return
        self.send(
            Welcome(
                store_id=self.manager.store_id, epoch=self.manager.epoch, max_task_bytes=self.manager.max_task_bytes
            )
        )

    def _attach(self, message: AttachSession) -> None:
        session = self.manager.session_of(message)
        if isinstance(session, Rejection):
            self.send(AttachmentEnded(attachment=message.attachment, error=session))
            return
        block = None
        if message.submit:
            block = session.blocks.setdefault(message.key, Block(1 + BLOCK_TASKS * len(session.blocks)))
        self.attached[message.attachment] = Attached(session, block, message.after)
        self.send(
            SessionAttached(
                attachment=message.attachment,
                session=session.number,
                session_id=session.name,
                first=block.first if block else 0,
                next_id=block.next_id if block else 0,
                last_sequence=len(session.segments),
                state=session.state,
                spec=session.spec,
                warning=self.manager.warning,
            )
        )
        self.manager.deliver()

    def _submit(self, message: SubmitChunk) -> None:
        attached = self.attached.get(message.attachment)
        if attached is None or attached.block is None:
            return
        session, block = attached.session, attached.block
        if message.first + message.count <= block.next_id:
            self.send(ChunkAcknowledged(attachment=message.attachment, next_id=block.next_id))
            return
        problem = None
        if message.first != block.next_id:
            problem = Rejection("ABORTED", f"chunk at {message.first}, not {block.next_id}")
        elif session.state is SessionState.CLOSED:
            problem = Rejection("FAILED_PRECONDITION", "the session is closed")
        elif session.refuse_at and message.first >= session.refuse_at:
            problem = Rejection("RESOURCE_EXHAUSTED", "the disk is full")
        if problem is not None:
            self.send(ChunkRefused(attachment=message.attachment, first=message.first, error=problem))
            return
        chunk.check_columns(message.count, message.lengths, message.blob)
        block.next_id = message.first + message.count
        session.chunks.append((message.first, message.count))
        runs = not self.manager.hold_results and not self.manager.hold_tasks  # as it stood before the acknowledgement
        if not self.manager.hold_acknowledgements:
            self.send(ChunkAcknowledged(attachment=message.attachment, next_id=block.next_id))
        session.pending.update(enumerate(chunk.unpack(message.lengths, message.blob), message.first))  # type: ignore[arg-type]
        if runs:
            self.manager.run_pending(session)

    def _cancel(self, message: CancelTasks) -> None:
        attached = self.attached.get(message.attachment)
        if attached is not None:
            ranges = self.manager.cancel(attached.session, message.first, message.first + message.count)
            self.manager.deliver()
            self.send(TasksCancelled(attachment=message.attachment, request=message.request, ranges=tuple(ranges)))

    def acknowledge_all(self) -> None:
        for number, attached in self.attached.items():
            if attached.block is not None:
                self.send(ChunkAcknowledged(attachment=number, next_id=attached.block.next_id))

    def changed(self, session: StoredSession, warning: str = "") -> None:
        for number, attached in self.attached.items():
            if attached.session is session:
                self.send(
                    SessionChanged(
                        attachment=number,
                        state=session.state,
                        warning=warning,
                        last_sequence=len(session.segments),
                    )
                )

    def deliver(self) -> None:
        for number, attached in self.attached.items():
            unacknowledged = attached.unacknowledged
            while attached.sent < len(attached.session.segments):
                total = sum(unacknowledged.values())
                segment = attached.session.segments[attached.sent]
                nbytes = len(segment.blob) + 32 * segment.count
                if unacknowledged and total + nbytes > RESULT_WINDOW_BYTES:
                    break
                attached.sent += 1
                block = attached.block
                if block is None or block.first <= segment.first < block.first + BLOCK_TASKS:
                    unacknowledged[segment.sequence] = nbytes
                    self.send(
                        Segment(
                            attachment=number,
                            sequence=segment.sequence,
                            first=segment.first,
                            count=segment.count,
                            state=segment.state,
                            states=segment.states,
                            lengths=segment.lengths,
                            blob=segment.blob,
                        )
                    )

    # --- the unary methods that the SDK calls ------------------------------------------------------------------------

    def _call(self, message: Call) -> Reply:
        method = message.method.rpartition("/")[2]
        self.manager.calls.append(method)
        try:
            answer = getattr(self, "_" + method)(message.payload)
        except KeyError as error:
            return Reply(id=message.id, error=Rejection("NOT_FOUND", f"there is no {error.args[0]!r}"))
        return Reply(id=message.id, payload=answer.SerializeToString())

    def _RegisterApplication(self, payload: bytes) -> types.Result:
        request = frontend.RegisterApplicationRequest.FromString(payload)
        if request.name in self.manager.applications:
            return types.Result(return_code=-1, message="it exists already")
        self.manager.applications[request.name] = application_spec_from_proto(request.application)
        return types.Result()

    def _UpdateApplication(self, payload: bytes) -> types.Result:
        request = frontend.UpdateApplicationRequest.FromString(payload)
        for session in self.manager.sessions.values():
            if session.spec.application == request.name and session.state is SessionState.OPEN:
                return types.Result(return_code=-1, message=f"session {session.name} is open")
        self.manager.applications[request.name] = application_spec_from_proto(request.application)
        return types.Result()

    def _UnregisterApplication(self, payload: bytes) -> types.Result:
        request = frontend.UnregisterApplicationRequest.FromString(payload)
        if self.manager.applications.pop(request.name, None) is None:
            return types.Result(return_code=-1, message="it does not exist", code="NOT_FOUND")
        return types.Result()

    def _GetApplication(self, payload: bytes) -> types.Application:
        name = frontend.GetApplicationRequest.FromString(payload).name
        return application_to_proto(ApplicationRecord(name=name, spec=self.manager.applications[name], created_ms=1))

    def _ListApplication(self, payload: bytes) -> types.ApplicationList:
        records = [ApplicationRecord(name=n, spec=s, created_ms=1) for n, s in self.manager.applications.items()]
        return types.ApplicationList(applications=[application_to_proto(record) for record in records])

    def _shown(self, session: StoredSession) -> types.Session:
        counts = session.counts
        return session_to_proto(
            SessionRecord(
                number=session.number,
                name=session.name,
                spec=session.spec,
                state=session.state,
                created_ms=1,
                closed_ms=2 if session.state is SessionState.CLOSED else None,
            ),
            pending=len(session.pending),
            running=len(session.running),
            succeed=counts[TaskState.SUCCEED],
            failed=counts[TaskState.FAILED],
            cancelled=counts[TaskState.CANCELLED],
        )

    def _GetSession(self, payload: bytes) -> types.Session:
        return self._shown(self.manager.sessions[frontend.GetSessionRequest.FromString(payload).session_id])

    def _ListSession(self, payload: bytes) -> types.SessionList:
        return types.SessionList(sessions=[self._shown(session) for session in self.manager.sessions.values()])

    def _CloseSession(self, payload: bytes) -> types.Session:
        session = self.manager.sessions[frontend.CloseSessionRequest.FromString(payload).session_id]
        self.manager.close_session(session)
        return self._shown(session)

    def _DeleteSession(self, payload: bytes) -> types.Session:
        name = frontend.DeleteSessionRequest.FromString(payload).session_id
        shown = self._shown(self.manager.sessions[name])
        del self.manager.sessions[name]
        for peer in self.manager.peers:
            for number in [number for number, attached in peer.attached.items() if attached.session.name == name]:
                del peer.attached[number]
                peer.send(AttachmentEnded(attachment=number, error=Rejection("NOT_FOUND", f"session {name} deleted")))
        return shown

    def _ListExecutor(self, payload: bytes) -> types.ExecutorList:
        return types.ExecutorList()

    def _ListNodes(self, payload: bytes) -> types.NodeList:
        return types.NodeList()


class ScriptedCluster:
    """A `ScriptedManager` behind a Unix socket, in a thread of its own."""

    def __init__(self, directory: Path, manager: ScriptedManager | None = None) -> None:
        self.manager = manager or ScriptedManager()
        self.endpoint = f"unix://{directory}/s.sock"
        self._loop = asyncio.new_event_loop()
        self._links: list[Link] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-manager", daemon=True)
        self._thread.start()
        self.start()

    def _connected(self, link: Link) -> Peer:
        self._links.append(link)
        return Peer(self.manager, link.send)

    def start(self) -> None:
        """Listen."""
        self._listener = asyncio.run_coroutine_threadsafe(serve(self.endpoint, self._connected), self._loop).result(30)

    def stop(self) -> None:
        """Stop listening and drop every link, as a crash would; what is stored stays."""
        asyncio.run_coroutine_threadsafe(self._listener.stop(), self._loop).result(30)
        self.manager.peers.clear()

    def do(self, action: Callable[[], object]) -> None:
        """Run `action` in the session manager's thread and wait for it."""

        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def drop_links(self) -> None:
        """Drop every link at once."""

        def drop() -> None:
            links, self._links = self._links, []
            for link in links:
                link.abort()

        self.do(drop)

    def end(self) -> None:
        """Stop the thread."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

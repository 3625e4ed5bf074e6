"""What has to stay as it was told: a session closed or gone, a task ended, whatever is killed afterwards.

Clients are told such things once the commit behind them is durable. So they are true in all that is shown to somebody
who asked later, and in whatever a session manager finds in the store when it starts.
"""

from collections.abc import Callable, Iterable, Iterator

from flame.kernel.ranges import RangeSet
from flame.model.client_messages import AttachmentEnded, AttachSession, SessionAttached, SessionChanged
from flame.model.messages import Message
from flame.model.records import DeleteSession, PutSegment, PutSession, Snapshot, Write
from flame.model.states import SessionState, TaskState
from flame.sim.history_facts import Reader, SessionFacts

_MS = 1_000_000


class _Told:
    """What was told of a session, and when first.

    Attributes:
        ended: tasks that somebody was told have ended.
        late: tasks that were submitted when somebody knew already that the session is closed.
    """

    __slots__ = ("closed_ns", "delete_asked", "deleted_ns", "ended", "late")

    def __init__(self) -> None:
        self.closed_ns: int | None = None
        self.deleted_ns: int | None = None
        self.delete_asked = False
        self.ended = RangeSet()
        self.late = RangeSet()

    def closed(self) -> str:
        return f"at {(self.closed_ns or 0) / _MS:.3f} ms somebody was told that it is closed"

    def deleted(self) -> str:
        return f"at {(self.deleted_ns or 0) / _MS:.3f} ms somebody was told that it is deleted"


class Promises:
    """What clients were told that has to stay true, of each session by the key that its history has for it.

    Args:
        broken: takes when a promise was seen to be broken, of which session, of which task (or 0), and how.

    Example:
        >>> promises = Promises(lambda at_ns, session, task, text: print(session, text))
        >>> promises.close_answered(1_000_000, "s")
        >>> promises.shown(1_500_000, 2_000_000, "s", open=True)
        s it is shown open, and at 1.000 ms somebody was told that it is closed
    """

    def __init__(self, broken: Callable[[int, str, int, str], None]) -> None:
        self._broken = broken
        self._told: dict[str, _Told] = {}

    def _of(self, name: str) -> _Told:
        return self._told.setdefault(name, _Told())

    # --- what clients are told ---------------------------------------------------------------------------------------

    def close_answered(self, at_ns: int, name: str) -> None:
        """Somebody was told that the session is closed: who asked for it, or whoever is attached."""
        told = self._of(name)
        if told.closed_ns is None:
            told.closed_ns = at_ns

    def delete_asked(self, name: str) -> None:
        """Somebody is about to ask that the session is deleted: it may be gone from now on."""
        self._of(name).delete_asked = True

    def deleted_answered(self, at_ns: int, name: str) -> None:
        """Somebody was told that the session is deleted; another one of its name is another session."""
        self.close_answered(at_ns, name)
        told = self._of(name)
        if told.deleted_ns is None:
            told.deleted_ns = at_ns

    def told_ended(self, at_ns: int, name: str, task: int) -> None:
        """Somebody who watches the task was told that it has ended."""
        self._of(name).ended.add(task, task + 1)

    # --- what is seen later ------------------------------------------------------------------------------------------

    def submitted(self, at_ns: int, name: str, first: int, count: int) -> None:
        """Tasks are about to be submitted: if somebody knows that the session is closed, none may be taken."""
        told = self._told.get(name)
        if told is not None and told.closed_ns is not None and told.closed_ns < at_ns:
            told.late.add(first, first + count)

    def acknowledged(self, at_ns: int, name: str, first: int, count: int) -> None:
        """Tasks were taken."""
        told = self._told.get(name)
        if told is None:
            return
        for low, _ in told.late.overlap(first, first + count):
            self._broken(at_ns, name, low, f"it was taken, and before it was submitted, {told.closed()}")

    def shown(self, asked_ns: int, at_ns: int, name: str, *, open: bool) -> None:
        """Somebody was shown the session, as it was at some time since they asked for it."""
        told = self._told.get(name)
        if told is None:
            return
        if told.deleted_ns is not None and told.deleted_ns < asked_ns:
            self._broken(at_ns, name, 0, f"it is shown, and {told.deleted()}")
        elif open and told.closed_ns is not None and told.closed_ns < asked_ns:
            self._broken(at_ns, name, 0, f"it is shown open, and {told.closed()}")

    def unfinished(self, at_ns: int, name: str, task: int) -> None:
        """Somebody who looked at the task just now was shown no outcome."""
        told = self._told.get(name)
        if told is not None and task in told.ended:
            self._broken(at_ns, name, task, "a watcher was told that it has ended, and it is shown without an outcome")

    def found(self, at_ns: int, snapshot: Snapshot) -> None:
        """A store as it is read at a start, or at the end."""
        sessions = {str(record.number): record for record in snapshot.sessions}
        ends = {number: RangeSet() for number, told in self._told.items() if told.ended}
        for segment in snapshot.segments if ends else ():
            if str(segment.session) in ends:
                ends[str(segment.session)].add(segment.first, segment.first + segment.count)
        for name, told in self._told.items():
            record = sessions.get(name)
            if record is None:
                if not told.delete_asked:
                    self._broken(at_ns, name, 0, "it is not in the store, and nobody asked to delete it")
                continue
            if told.deleted_ns is not None:
                self._broken(at_ns, name, 0, f"it is in the store, and {told.deleted()}")
            elif told.closed_ns is not None and record.state is SessionState.OPEN:
                self._broken(at_ns, name, 0, f"it is open in the store, and {told.closed()}")
            for first, end in told.ended:
                for task, _ in ends[name].missing(first, end):
                    text = "a watcher was told that it has ended, and the store has no outcome"
                    self._broken(at_ns, name, task, text)


class Listener:
    """What a client hears of the sessions that it is attached to over one connection, for the promises.

    Args:
        promises: who hears it.
    """

    def __init__(self, promises: Promises) -> None:
        self._promises = promises
        self._asked_ns: dict[int, int] = {}
        self._sessions: dict[int, str] = {}

    def connected(self) -> None:
        """It has a new connection: what was asked on the former one is asked again."""
        self._asked_ns.clear()
        self._sessions.clear()

    def said(self, at_ns: int, message: Message) -> None:
        """The client sends something."""
        if isinstance(message, AttachSession):
            self._asked_ns.setdefault(message.attachment, at_ns)

    def heard(self, at_ns: int, message: Message) -> None:
        """The client receives something."""
        promises = self._promises
        if isinstance(message, SessionAttached):
            name = self._sessions[message.attachment] = str(message.session)
            asked_ns = self._asked_ns.pop(message.attachment)
            promises.shown(asked_ns, at_ns, name, open=message.state is SessionState.OPEN)
        elif isinstance(message, AttachmentEnded):
            self._asked_ns.pop(message.attachment, None)
            name = self._sessions.pop(message.attachment, "")
            if name and message.error.code == "NOT_FOUND":
                promises.deleted_answered(at_ns, name)
            return
        elif not isinstance(message, SessionChanged):
            return
        if message.state is SessionState.CLOSED and message.attachment in self._sessions:
            promises.close_answered(at_ns, self._sessions[message.attachment])


def lost(session: SessionFacts) -> Iterator[tuple[int, str]]:
    """Acknowledged tasks without an outcome: in the store if it is known, or for somebody who has all; and how so."""
    if session.deleted:
        wanted: list[tuple[str, RangeSet, Reader]] = []
    elif session.store.finished:
        wanted = [("acknowledged, but the store has no outcome", session.acknowledged, session.store)]
    else:
        anybody = Reader("anybody")
        for view in session.readers.values():
            for first, end in view.seen:
                anybody.seen.add(first, end)
        wanted = [("acknowledged, but it has no outcome at the end", session.acknowledged, anybody)]
    for view in session.readers.values():
        if view.finished and view.submitted:
            wanted.append((f"{view.name} submitted it, and has no outcome", view.submitted, view))
        elif view.finished and not session.deleted:
            wanted.append((f"acknowledged, but {view.name} has no outcome", session.acknowledged, view))
    for text, tasks, view in wanted:
        for first, end in tasks:
            for low, high in view.seen.missing(first, end):
                for task, last in view.refused.missing(low, high):
                    more = f" (nor have the ones to {last - 1})" if last > task + 1 else ""
                    yield task, text + more


def became(writes: Iterable[Write]) -> Iterator[str]:
    """What becomes of sessions and tasks by a commit, as it is counted."""
    for write in writes:
        if isinstance(write, PutSession):
            yield f"session {write.record.state.name}"
        elif isinstance(write, DeleteSession):
            yield "session deleted"
        elif isinstance(write, PutSegment):
            for state in write.record.states or (write.record.state,):
                yield f"task {TaskState(state).name}"

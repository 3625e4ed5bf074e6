"""A connection to a cluster."""

import atexit
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Literal

from flame.model.errors import FailedPrecondition, FlameError, InvalidArgument, TooLarge, Unavailable
from flame.model.limits import DELAY_RELEASE_MS, MAX_COMMON_DATA_BYTES
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec, check_application_name, check_session_id
from flame.model.states import Shim
from flame.protocol.client_submission import Submission
from flame.sdk import calls
from flame.sdk.embedded import EmbeddedCluster
from flame.sdk.link import FIRST_PATIENCE_S, StreamOwner
from flame.sdk.results import TaskResult, read_results
from flame.sdk.services import locate_service
from flame.sdk.session import Session
from flame.sdk.views import ApplicationView, ExecutorView, NodeView, SessionView

Mode = Literal["durable", "memory"]
Carrier = Literal["frames", "grpc"]

CONNECT_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 5.0
"""Longest wait of `Connection.close` until what was submitted is stored."""
SOFTWARE = "flame-python"

_connections: "weakref.WeakSet[Connection]" = weakref.WeakSet()


def connect(
    endpoint: str | None = None,
    *,
    mode: Mode | None = None,
    timeout: float | None = None,
    carrier: Carrier | None = None,
) -> "Connection":
    """Connect to a cluster.

    It is found in this order: `endpoint`, the environment variable `FLAME_ENDPOINT`, `~/.flame/flame.yaml`, a local
    cluster of this user that runs, an embedded cluster that is started here and ends with the connection.

    Args:
        endpoint: `unix:///path`, `frames://host:port`, `http://host:port`, or `embedded`.
        mode: of an embedded cluster: `durable` (default) stores on disk, in a temporary directory; `memory` does not.
        timeout: longest wait in seconds for a cluster that answers. None: 10 s, but half a second where nobody takes
            connections and no local cluster runs.
        carrier: `frames` or `grpc`, where an `http` endpoint leaves the choice; frames by default.

    Raises:
        Unavailable: no cluster answers.
        FailedPrecondition: called while an executor imports this script.
        InvalidArgument: an endpoint, mode or carrier that is none.

    Example:
        with flame.connect() as connection:
            with connection.create_session("flmping") as session:
                print(session.invoke(b""))
    """
    from flame.config.endpoint import resolve
    from flame.service import importing

    if importing.active:
        raise FailedPrecondition(
            f"flame.connect() was called while an executor imports {importing.source or 'this script'}",
            hint='put the code that connects under `if __name__ == "__main__":`',
        )
    if carrier not in (None, "frames", "grpc"):
        raise InvalidArgument(f"carrier {carrier!r} is not known", hint="use frames or grpc")
    if mode not in (None, "durable", "memory"):
        raise InvalidArgument(f"mode {mode!r} is not known", hint="use durable or memory")
    place = resolve(endpoint, allow_embedded=True)
    if place.kind == "embedded":
        return _connect_embedded(mode or "durable", timeout)
    if mode is not None:
        raise InvalidArgument(
            f"mode={mode!r} is for embedded clusters; {place.url} ({place.source}) chose its own",
            hint='leave mode out, or pass endpoint="embedded"',
        )
    if carrier == "grpc" and place.kind != "http":
        raise InvalidArgument(f"{place.url} is no gRPC endpoint", hint="use http://host:port")
    connection = Connection(place.url)
    if place.supervised and timeout is None:
        timeout = CONNECT_TIMEOUT_S
    connection._open(timeout, choose=place.kind == "http" and carrier != "grpc", must=carrier == "frames")
    return connection


def _connect_embedded(mode: Mode, timeout: float | None) -> "Connection":
    cluster = EmbeddedCluster.start(mode, CONNECT_TIMEOUT_S if timeout is None else timeout)
    try:
        connection = Connection(cluster.endpoint, cluster)
        connection._open(timeout)
    except BaseException:
        cluster.stop()
        raise
    print(  # noqa: T201 - the one line an embedded cluster says
        f"flame: started an embedded cluster ({mode}, {cluster.data_dir}); it ends with this connection",
        file=sys.stderr,
    )
    return connection


class Connection(StreamOwner):
    """A connection to a session manager; made by `flame.connect`, safe to use from threads.

    It reconnects by itself for as long as it is open: futures and sessions stay valid over a restart of the session
    manager. The logger `flame` gets a warning when the link is lost, and one when it is back. A forked child cannot
    use the connection of its parent.

    Attributes:
        endpoint: what it is connected to.
    """

    def __init__(self, endpoint: str, cluster: EmbeddedCluster | None = None) -> None:
        super().__init__(endpoint, f"{SOFTWARE} {_version()}")
        self._cluster = cluster
        self._retiring: list[Session] = []
        self._pid = os.getpid()
        if cluster is not None:
            self.alive = cluster.ended
        _connections.add(self)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.stream.error is None else "closed"
        return f"<flame.Connection to {self.endpoint}: {state}>"

    def close(self) -> None:
        """Close the connection; open sessions stay open, unfinished futures fail. An embedded cluster ends.

        Tasks that were submitted and are not stored yet are sent first, for at most 5 s; a warning says how many were
        not.
        """
        self._store_submitted()
        link = self.fail(FailedPrecondition("the connection was closed", hint="connect anew with flame.connect()"))
        if link is not None:
            link.close()
        if self._cluster is not None and not self.forked():
            self._cluster.stop()

    def _store_submitted(self) -> None:
        if self._cluster is not None or self.forked():
            return  # nothing outlives an embedded cluster
        with self.lock:
            if self.stream.error is not None:
                return
            blocks = [block for block in self.stream.attachments.values() if isinstance(block, Submission)]
            if not any(block.buffered for block in blocks):
                return
            for block in blocks:
                block.flush()
            left_s = CLOSE_TIMEOUT_S if self.stream.welcome is not None else 0
            try:
                self.wait_for(lambda: not any(block.buffered for block in blocks), left_s, "close", results=False)
            except (FlameError, TimeoutError):
                count = sum(block.next_id - block.stored for block in blocks)
                self.notes.append(f"the connection to {self.endpoint} ends before {count} submitted tasks are stored")
        self.tell()

    # --- applications ------------------------------------------------------------------------------------------------

    def register_application(
        self,
        name: str,
        service: type | str | None = None,
        *,
        working_directory: str | os.PathLike[str] | None = None,
        environments: Mapping[str, str] | None = None,
        description: str = "",
        labels: Iterable[str] = (),
        max_instances: int | None = None,
        delay_release_ms: int = DELAY_RELEASE_MS,
        shim: Shim = Shim.HOST,
        image: str = "",
        command: str = "",
        arguments: Iterable[str] = (),
        url: str = "",
        installer: str = "",
        timeout: float | None = CALL_TIMEOUT_S,
    ) -> None:
        """Register an application, or change one that has no open session. An identical spec again succeeds.

        Args:
            name: of the application.
            service: a class derived from `FlameService`, of this script or an importable module, or
                `"package.module:Class"`.
            working_directory: directory on the import path of the service; found from the class where not given.
            environments: additional environment variables.
            description, labels, image, command, arguments, url, installer: see `ApplicationSpec`.
            max_instances: most executors of one session; None is unlimited.
            delay_release_ms: how long an executor stays after its session ran out of tasks.
            shim: the protocol between executor and service.
            timeout: longest wait in seconds.

        Raises:
            InvalidArgument: the name, the class or a field cannot be used.
            FailedPrecondition: it is registered otherwise and has open sessions.
        """
        check_application_name(name)
        directory = "" if working_directory is None else os.path.abspath(working_directory)
        located, root = ("", "") if service is None else locate_service(service)
        spec = ApplicationSpec(
            shim=shim,
            service=located,
            description=description,
            labels=tuple(labels),
            image=image,
            command=command,
            arguments=tuple(arguments),
            environments=tuple((environments or {}).items()),
            working_directory=directory or root,
            max_instances=max_instances,
            delay_release_ms=delay_release_ms,
            url=url,
            installer=installer,
        )
        calls.register_application(self, name, spec, timeout)

    def unregister_application(self, name: str, *, timeout: float | None = CALL_TIMEOUT_S) -> None:
        """Remove an application.

        Raises:
            FailedPrecondition: it has open sessions.
            NotFound: there is none of that name.
        """
        calls.unregister_application(self, name, timeout)

    def update_application(self, name: str, spec: ApplicationSpec, *, timeout: float | None = CALL_TIMEOUT_S) -> None:
        """Replace the spec of an application that has no open session.

        Raises:
            FailedPrecondition: it has open sessions.
            NotFound: there is none of that name.
        """
        calls.update_application(self, name, spec, timeout)

    def get_application(self, name: str, *, timeout: float | None = CALL_TIMEOUT_S) -> ApplicationView:
        """An application.

        Raises:
            NotFound: there is none of that name.
        """
        return calls.get_application(self, name, timeout)

    def list_applications(self, *, timeout: float | None = CALL_TIMEOUT_S) -> list[ApplicationView]:
        """Every application."""
        return calls.list_applications(self, timeout)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def create_session(
        self,
        application: str,
        *,
        common_data: bytes | None = None,
        min_instances: int = 0,
        max_instances: int | None = None,
        priority: int = 0,
        resources: str | Resources | None = None,
        batch_size: int = 1,
        session_id: str = "",
        timeout: float | None = CALL_TIMEOUT_S,
    ) -> Session:
        """Open a new session on an application.

        Args:
            application: name of the application.
            common_data: bytes that every executor of the session gets once.
            min_instances: executors held while the session is open.
            max_instances: most executors; None is unlimited.
            priority: larger goes first.
            resources: what each executor needs, e.g. `"cpu=1,mem=1g"`; None takes the cluster's default.
            batch_size: executors per gang.
            session_id: its name; the session manager makes one where it is empty.
            timeout: longest wait in seconds.

        Raises:
            NotFound: there is no such application.
            AlreadyExists: the name is taken.
            InvalidArgument: a value that cannot be.
        """
        if common_data is not None:
            _check_common_data(common_data)
        if session_id:
            check_session_id(session_id)
        spec = SessionSpec(
            application=check_application_name(application),
            common_data=common_data,
            min_instances=min_instances,
            max_instances=max_instances,
            batch_size=batch_size,
            priority=priority,
            resources=Resources.parse(resources) if isinstance(resources, str) else resources,
        )
        calls.check_session_spec(spec)
        session = Session(self, owned=True)
        with self.lock:
            self.check()
            session._attach(session_id, spec, timeout)
        return session

    def open_session(self, session_id: str, *, timeout: float | None = CALL_TIMEOUT_S) -> Session:
        """Attach to an open session, to submit more tasks to it. Leaving its `with` detaches, and closes nothing.

        Raises:
            NotFound: there is no such session.
            FailedPrecondition: it is closed; `results` reads what it has.
        """
        check_session_id(session_id)
        session = Session(self, owned=False)
        with self.lock:
            self.check()
            session._attach(session_id, None, timeout)
        return session

    def get_session(self, session_id: str, *, timeout: float | None = CALL_TIMEOUT_S) -> SessionView:
        """A session, open or closed.

        Raises:
            NotFound: there is no such session.
        """
        return calls.get_session(self, session_id, timeout)

    def list_sessions(self, *, timeout: float | None = CALL_TIMEOUT_S) -> list[SessionView]:
        """Every session, open or closed."""
        return calls.list_sessions(self, timeout)

    def close_session(self, session_id: str, *, timeout: float | None = CALL_TIMEOUT_S) -> SessionView:
        """Close a session, whoever made it: what is queued becomes Cancelled, running tasks finish.

        Raises:
            NotFound: there is no such session.
        """
        return calls.close_session(self, session_id, timeout)

    def delete_session(self, session_id: str, *, timeout: float | None = CALL_TIMEOUT_S) -> SessionView:
        """Delete a closed session with its tasks and results.

        Raises:
            NotFound: there is no such session.
            FailedPrecondition: it is open.
        """
        return calls.delete_session(self, session_id, timeout)

    def results(
        self, session_id: str, *, after: int = 0, follow: bool = False, timeout: float | None = None
    ) -> Iterator[TaskResult]:
        """Read the results of a session, open or closed, whoever submitted the tasks.

        For a closed session it ends after the last result. For an open one it ends with what is stored now, unless
        `follow` is set: then it goes on until the session is closed.

        Args:
            session_id: the session's name.
            after: only results with a sequence above this one: where an earlier reading has stopped.
            follow: wait for more results of an open session.
            timeout: longest wait in seconds for the next result.

        Raises:
            NotFound: there is no such session.
            TimeoutError: no result came in time.
        """
        check_session_id(session_id)
        if after < 0:
            raise InvalidArgument(f"after is {after}", hint="it is the sequence of a result, or 0 for all")
        return read_results(self, session_id, after=after, follow=follow, timeout=timeout)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def list_executors(self, *, timeout: float | None = CALL_TIMEOUT_S) -> list[ExecutorView]:
        """Every executor."""
        return calls.list_executors(self, timeout)

    def list_nodes(self, *, timeout: float | None = CALL_TIMEOUT_S) -> list[NodeView]:
        """Every node."""
        return calls.list_nodes(self, timeout)

    # --- inside ------------------------------------------------------------------------------------------------------

    def forked(self) -> bool:
        """Whether this process is a forked child of the one that connected."""
        return self._pid != os.getpid()

    def _open(self, timeout: float | None, *, choose: bool = False, must: bool = False) -> None:
        """Connect for the first time; with `choose`, go on over frames if the session manager serves them."""
        try:
            patience_s = FIRST_PATIENCE_S if timeout is None else None
            timeout = CONNECT_TIMEOUT_S if timeout is None else timeout
            frames = self.establish(timeout, patience_s).frames_endpoint
            if choose and frames:
                self._move(frames, timeout, patience_s, must)
            elif must and choose:
                raise Unavailable(f"{self.endpoint} names no frame endpoint", hint='use carrier="grpc"')
        except BaseException as error:
            failure = error if isinstance(error, FlameError) else Unavailable("the connection was not made")
            link = self.fail(failure)
            if link is not None:
                link.close()
            raise

    def _move(self, frames: str, timeout: float, patience_s: float | None, must: bool) -> None:
        """Go on at another endpoint, or where that does not answer (from inside a container, say) at this one."""
        published = self.endpoint
        with self.lock:
            link = self.drop_link()
            self.stream.lost()
            self.endpoint = frames
        if link is not None:
            link.close()
        try:
            self.establish(*((timeout, patience_s) if must else (1.0, FIRST_PATIENCE_S)))
        except Unavailable:
            if must:
                raise
            with self.lock:
                self.endpoint = published
            self.establish(timeout)

    def _retire(self, session: Session) -> None:
        """Detach a closed session once its last result is here."""
        with self.lock:
            self._retiring.append(session)
            self._detach_finished()
            self.send()

    def _detach_finished(self) -> None:
        for session in [session for session in self._retiring if session._finished()]:
            self._retiring.remove(session)
            for block in session._blocks:
                self.stream.detach(block)

    def after_message(self) -> None:
        """Detach sessions that are done, and note warnings that are new."""
        if self._retiring:
            self._detach_finished()
        if self.stream.warnings:
            self.notes += [f"session {session}: {text}" for session, text in self.stream.warnings]
            self.stream.warnings.clear()

    def _become_forked(self) -> None:
        """In a forked child: the link and its thread are the parent's."""
        import threading

        error = FailedPrecondition(
            "this connection was made before the process forked, and belongs to the parent",
            hint="call flame.connect() in the child",
        )
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.stream.error = error
        for attachment in self.stream.attachments.values():
            attachment.disown(error)
        self._attempt += 1
        self._link = None
        self.notes.clear()


def _check_common_data(common_data: object) -> None:
    if not isinstance(common_data, bytes):
        raise TypeError(f"common_data must be bytes, not {type(common_data).__name__}")
    if len(common_data) > MAX_COMMON_DATA_BYTES:
        raise TooLarge(
            f"common_data has {len(common_data)} bytes, the limit is {MAX_COMMON_DATA_BYTES}",
            hint="put it where the executors can read it, and pass its place",
        )


def _version() -> str:
    import flame

    return str(flame.__version__)


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        connection._become_forked()


def _before_exit() -> None:
    for connection in list(_connections):
        connection._store_submitted()


atexit.register(_before_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)

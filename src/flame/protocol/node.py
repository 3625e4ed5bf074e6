"""The node's half of its link: its executors, their exits until they are stored, and the node's lease.

`NodeHalf` has no clock and starts nothing: it is told what happened and answers with messages to send and with actions
(`StartExecutor`, `KillExecutor`). All times are CLOCK_BOOTTIME in ns.
"""

from typing import Final

import msgspec

from flame.model.errors import FailureRecord, InvalidArgument, Unavailable
from flame.model.limits import ENTER_TIMEOUT_MS, LEASE_MS, LEAVE_TIMEOUT_MS, MAX_NODE_NAME_CHARS, START_TIMEOUT_MS
from flame.model.messages import Hello, Message, Refused, Role, Welcome
from flame.model.node_messages import (
    AcknowledgeExit,
    BindExecutor,
    EndExecutor,
    ExecutorExited,
    ExecutorReport,
    ExecutorStarted,
    JoinNode,
    NodeJoined,
    PingNode,
    PongNode,
)
from flame.model.resources import Resources
from flame.model.specs import check_name
from flame.protocol.shared_table import Phase, SharedTable

PINGS_PER_LEASE: Final = 6
_NS_PER_MS: Final = 1_000_000


class StartExecutor(msgspec.Struct, frozen=True):
    """Start a process; ends as `NodeHalf.started` and later `NodeHalf.exited`, or as the latter alone."""

    bind: BindExecutor
    store_id: str
    epoch: int


class KillExecutor(msgspec.Struct, frozen=True):
    """Kill an executor's processes: with SIGTERM, and after `grace_ms` with SIGKILL."""

    executor: str
    binding: int
    grace_ms: int = 0


Action = StartExecutor | KillExecutor


class NodeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says about itself; fields as in `JoinNode`."""

    node: str
    instance: str
    capacity: Resources
    max_executors: int = 0
    host: str = ""
    arch: str = ""
    os: str = ""
    software: str = ""


class HostedExecutor(msgspec.Struct, kw_only=True):
    """An executor of this node.

    Args:
        bind: what it was started for.
        asked_ns: when its start was asked for.
        table: its shared table, once there is one.
        killed: whether this node ends it, or has told it to leave.
        failure: why it was killed, where that is a failure to start or to enter.
        forgotten: its end interests nobody: it belongs to another store.
    """

    bind: BindExecutor
    asked_ns: int
    pid: int = 0
    log_path: str = ""
    table: SharedTable | None = None
    killed: bool = False
    failure: str = ""
    forgotten: bool = False


class NodeHalf:
    """The node's half of its link.

    Attributes:
        executors: live executors, by executor and binding.
        exits: exits that are not acknowledged.
        joined: whether the session manager has taken the node in on the present link.
        lease_ms: length of the lease.
        lease_end_ns: end of the lease; 0 before the first.
    """

    def __init__(self, identity: NodeIdentity) -> None:
        self._identity = identity
        self._store_id = ""
        self._epoch = 0
        self._welcome: Welcome | None = None
        self._join_sent = False
        self._join_sent_ns = 0
        self._pinged_ns = 0
        self._stopping = False
        self.executors: dict[tuple[str, int], HostedExecutor] = {}
        self.exits: dict[tuple[str, int], ExecutorExited] = {}
        self.joined = False
        self.lease_ms = LEASE_MS
        self.lease_end_ns = 0

    # --- the link --------------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        """The first message of every link. It names no store: a node outlives stores."""
        return Hello(role=Role.NODE, software=self._identity.software)

    def disconnected(self) -> None:
        """The link is over; the executors go on while the lease lasts."""
        self.joined = self._join_sent = False
        self._welcome = None

    def received(self, message: Message, now_ns: int) -> list[Message | Action]:
        """Take a message of the session manager; return what to send and do.

        Raises:
            FlameError: this link is of no use: close it and connect again.
        """
        match message:
            case PongNode(sent_ns=sent_ns):
                self._renew(sent_ns)
                return []
            case BindExecutor():
                return self._bind(message, now_ns)
            case EndExecutor(executor=executor, binding=binding, grace_ms=grace_ms):
                return self._kill(self.executors.get((executor, binding)), grace_ms)
            case AcknowledgeExit(executor=executor, binding=binding):
                self.exits.pop((executor, binding), None)
                return []
            case Welcome():
                return self._welcomed(message, now_ns)
            case NodeJoined(lease_ms=lease_ms):
                self.joined = True
                self.lease_ms = lease_ms
                self._renew(self._join_sent_ns)
                return []
            case Refused(error=error):
                raise Unavailable(f"the session manager refused node {self._identity.node}: {error.message}")
        raise InvalidArgument(f"the session manager sent a node {type(message).__name__}")

    def _welcomed(self, welcome: Welcome, now_ns: int) -> list[Message | Action]:
        if self._store_id and welcome.store_id != self._store_id:
            return self._change_store(welcome, now_ns)
        if welcome.epoch < self._epoch:
            raise Unavailable(
                f"the session manager has epoch {welcome.epoch}, but there was one with {self._epoch}",
                hint="an older session manager still runs on this endpoint",
            )
        self._store_id = welcome.store_id
        self._epoch = welcome.epoch
        return [self._join(now_ns)]

    def _change_store(self, welcome: Welcome, now_ns: int) -> list[Message | Action]:
        """Join only when nothing of the former store is left."""
        self.exits.clear()
        if not self.executors:
            self._store_id, self._epoch = welcome.store_id, welcome.epoch
            return [self._join(now_ns)]
        self._welcome = welcome
        actions: list[Message | Action] = []
        for executor in self.executors.values():
            executor.forgotten = True
            actions += self._kill(executor, 0)
        return actions

    def _join(self, now_ns: int) -> JoinNode:
        self._join_sent = True
        self._join_sent_ns = now_ns
        self._pinged_ns = 0
        for executor in self.executors.values():
            if executor.table:
                executor.table.seal(self._epoch)  # before `_report` reads what is held
        return JoinNode(
            node=self._identity.node,
            instance=self._identity.instance,
            capacity=self._identity.capacity,
            max_executors=self._identity.max_executors,
            executors=tuple(_report(executor) for executor in self.executors.values()),
            exits=tuple(self.exits.values()),
            host=self._identity.host,
            arch=self._identity.arch,
            os=self._identity.os,
        )

    # --- the lease -------------------------------------------------------------------------------------------------

    def _renew(self, sent_ns: int) -> None:
        self.lease_end_ns = max(self.lease_end_ns, sent_ns + self.lease_ms * _NS_PER_MS)

    def ping(self, now_ns: int) -> PingNode | None:
        """The ping that is due, or None."""
        if not self.joined or now_ns - self._pinged_ns < self.lease_ms * _NS_PER_MS // PINGS_PER_LEASE:
            return None
        self._pinged_ns = now_ns
        return PingNode(now_ns)

    # --- executors -------------------------------------------------------------------------------------------------

    def _bind(self, bind: BindExecutor, now_ns: int) -> list[Message | Action]:
        key = (bind.executor, bind.binding)
        if self._stopping or key in self.executors or key in self.exits:
            return []
        check_name("executor", bind.executor, MAX_NODE_NAME_CHARS)  # it becomes part of paths
        self.executors[key] = HostedExecutor(bind=bind, asked_ns=now_ns)
        return [StartExecutor(bind, self._store_id, self._epoch)]

    def _kill(self, executor: HostedExecutor | None, grace_ms: int) -> list[Message | Action]:
        if executor is None or (executor.killed and grace_ms):
            return []
        executor.killed = True
        return [KillExecutor(executor.bind.executor, executor.bind.binding, grace_ms)]

    def stop(self) -> None:
        """The node ends in order: it starts nothing more, and whatever ends from now on was ended by it."""
        self._stopping = True
        for executor in self.executors.values():
            executor.killed = True

    def opened(self, executor: str, binding: int, table: SharedTable, log_path: str) -> None:
        """The shared table and the log of an executor exist; its process comes next."""
        hosted = self.executors[executor, binding]
        # A join that went before has told that nothing is held.
        table.seal(self._epoch)
        hosted.table = table
        hosted.log_path = log_path

    def started(self, executor: str, binding: int, pid: int) -> list[Message]:
        """The process of an executor was started."""
        hosted = self.executors[executor, binding]
        hosted.pid = pid
        if not self._join_sent:
            return []
        return [ExecutorStarted(executor=executor, binding=binding, pid=pid, log_path=hosted.log_path)]

    def exited(
        self,
        executor: str,
        binding: int,
        now_ns: int,
        *,
        exit_code: int | None = None,
        signal: int = 0,
        failure: str = "",
        killed: bool = False,
    ) -> list[Message]:
        """The process of an executor is gone, with all that it started; or (`failure`) it could not be started.

        `killed`: it went with the process that hosts it on this node; a task that ran is a suspect, but not charged.
        """
        key = (executor, binding)
        hosted = self.executors.pop(key)
        with_host, hosted.killed = killed and not hosted.killed, hosted.killed or killed
        if hosted.forgotten:
            if self._welcome and not self.executors:
                welcome, self._welcome = self._welcome, None
                self._store_id, self._epoch = welcome.store_id, welcome.epoch
                return [self._join(now_ns)]
            return []
        table = hosted.table
        record = _failure(hosted, failure, exit_code, signal)
        # What this node ended is no death of the task that ran: the task is not to blame, and runs again.
        killed = hosted.killed and (not record or bool(failure))
        self.exits[key] = ExecutorExited(
            executor=executor,
            binding=binding,
            session=hosted.bind.session,
            exit_code=exit_code,
            signal=signal,
            current=_current(table, killed, with_host) if table else 0,
            entered=table.entered if table else False,
            left=table.phase is Phase.LEFT if table else False,
            failure=record,
            killed=killed,
        )
        return [self.exits[key]] if self._join_sent else []

    def tick(self, now_ns: int) -> list[Message | Action]:
        """What time has brought: a ping to send, executors to kill."""
        actions: list[Message | Action] = []
        ping = self.ping(now_ns)
        if ping:
            actions.append(ping)
        over = now_ns >= self.lease_end_ns
        for executor in self.executors.values():
            reason = None if executor.killed else _overdue(executor, now_ns)
            executor.failure = reason or executor.failure
            if over or reason is not None:
                actions += self._kill(executor, 0)
        return actions


def _current(table: SharedTable, killed: bool, with_host: bool) -> int:
    if with_host:
        return table.current
    return 0 if killed else table.charged


def _report(hosted: HostedExecutor) -> ExecutorReport:
    table = hosted.table
    return ExecutorReport(
        executor=hosted.bind.executor,
        binding=hosted.bind.binding,
        session=hosted.bind.session,
        pid=hosted.pid,
        held=table.held() if table else (),
        entered=table.entered if table else False,
        log_path=hosted.log_path,
    )


def _overdue(hosted: HostedExecutor, now_ns: int) -> str | None:
    """Why an executor has to be killed now; empty where that is no failure of a start or session enter."""
    bind, table = hosted.bind, hosted.table
    start_ms = bind.start_timeout_ms or START_TIMEOUT_MS
    if (table is None or not table.attached) and now_ns - hosted.asked_ns > start_ms * _NS_PER_MS:
        return f"executor {bind.executor} was not attached {start_ms} ms after its start{_see(hosted)}"
    if table is None:
        return None
    spent_ms = (now_ns - table.phase_since_ns) // _NS_PER_MS
    enter_ms = bind.enter_timeout_ms or ENTER_TIMEOUT_MS
    if table.phase in _STAGES and spent_ms > enter_ms:
        return (
            f"{_STAGES[table.phase]} of {bind.spec.service or bind.application} did not end within {enter_ms} ms; "
            f"executor {bind.executor} was killed after {spent_ms} ms{_see(hosted)}"
        )
    if table.phase is Phase.LEAVING and spent_ms > LEAVE_TIMEOUT_MS:
        return ""
    return None


_STAGES: dict[Phase, str] = {Phase.IMPORTING: "the import", Phase.ENTERING: "session enter"}


def _failure(hosted: HostedExecutor, failure: str, exit_code: int | None, signal: int) -> bytes:
    table = hosted.table
    if failure or hosted.failure:
        return FailureRecord(failure or hosted.failure).encode()
    if table is None or table.failure():
        return table.failure() if table else b""
    if table.entered or hosted.killed:
        return b""
    how = f"signal {signal}" if signal else f"exit code {exit_code}"
    doing = _doing(hosted, table.phase)
    return FailureRecord(
        f"executor {hosted.bind.executor} ended with {how} {doing}{_see(hosted)}", type="ExecutorDied"
    ).encode()


def _doing(hosted: HostedExecutor, phase: Phase) -> str:
    service = hosted.bind.spec.service or hosted.bind.application
    match phase:
        case Phase.IMPORTING:
            return f"while importing {service}"
        case Phase.ENTERING:
            return f"in session enter of {service}"
        case _:
            return "before it entered the session"


def _see(hosted: HostedExecutor) -> str:
    return f"; its output, if any, is in {hosted.log_path}" if hosted.log_path else ""

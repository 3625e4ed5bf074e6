"""What the cluster says about applications, sessions, executors and nodes, as plain values."""

import msgspec

from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import ApplicationState, ExecutorState, NodeState, SessionState, Shim


class ApplicationView(msgspec.Struct, frozen=True, kw_only=True):
    """A registered application."""

    name: str
    spec: ApplicationSpec
    state: ApplicationState
    created_ms: int


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session and how many of its tasks are in which state.

    Args:
        warnings: what stands in its way now, e.g. that it fits no node.
    """

    id: str
    spec: SessionSpec
    state: SessionState
    created_ms: int
    closed_ms: int | None = None
    pending: int = 0
    running: int = 0
    succeed: int = 0
    failed: int = 0
    cancelled: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def unfinished(self) -> int:
        """Tasks that have no result yet."""
        return self.pending + self.running


class ExecutorView(msgspec.Struct, frozen=True, kw_only=True):
    """An executor.

    Args:
        session_id: the session it is bound to, or empty.
        log_path: file with its standard output and error, on its node.
    """

    id: str
    node: str
    state: ExecutorState
    session_id: str = ""
    shim: Shim = Shim.HOST
    resources: Resources = Resources()
    log_path: str = ""


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node."""

    name: str
    host: str
    state: NodeState
    capacity: Resources
    allocatable: Resources
    arch: str = ""
    os: str = ""
    last_seen_ms: int = 0

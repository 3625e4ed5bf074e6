"""What a cluster has, as tables of text: sessions, applications, executors, nodes."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from enum import IntEnum

import flame
from flame.cli import tables
from flame.config.endpoint import resolve
from flame.model.errors import FlameError
from flame.model.resources import Resources, round_bytes
from flame.model.states import ExecutorState, NodeState, SessionState

Table = tuple[Sequence[str], list[list[object]]]
Pairs = list[tuple[str, object]]

PROBE_TIMEOUT_S = 1.0
SUPERVISED_TIMEOUT_S = 10.0
"""For a local cluster that runs: what does not answer there is being started again."""
CALL_TIMEOUT_S = 30.0


def connect(endpoint: str | None) -> "flame.Connection":
    """Connect to a cluster that runs; one is never started.

    Args:
        endpoint: the cluster, or None for the one that is configured or runs.

    Raises:
        Unavailable: there is none, or it does not answer.
    """
    place = resolve(endpoint, allow_embedded=False)
    return flame.connect(place.url, timeout=SUPERVISED_TIMEOUT_S if place.supervised else None)


class Probe:
    """Asks a cluster that is just starting whether it has a node yet; it may end again at any moment.

    Attributes:
        nodes: how many nodes were ready when it was asked last.
    """

    def __init__(self) -> None:
        self.nodes = 0
        self._stack = ExitStack()
        self._connection: flame.Connection | None = None

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def has_node(self, endpoint: str) -> bool:
        """Whether the cluster answers and has a node that is ready."""
        try:
            if self._connection is None:
                connection = flame.connect(endpoint, timeout=PROBE_TIMEOUT_S)
                self._connection = self._stack.enter_context(connection)
            self.nodes = _ready_nodes(self._connection, PROBE_TIMEOUT_S)
            return self.nodes > 0
        except (FlameError, TimeoutError):
            return False


def sessions(cluster: "flame.Connection") -> Table:
    """Sessions, the newest last."""
    bound = _bound(cluster)
    columns = ["ID", "State", "App", "Resources", "Priority", "Executors", "Pending", "Running"]
    columns += ["Succeed", "Failed", "Created"]
    rows: list[list[object]] = []
    for view in sorted(cluster.list_sessions(), key=lambda view: (view.created_ms, view.id)):
        spec = view.spec
        row = [view.id, _words(view.state), spec.application, _shown(spec.resources), spec.priority, bound[view.id]]
        rows.append([*row, view.pending, view.running, view.succeed, view.failed, tables.local_time(view.created_ms)])
    return columns, rows


def applications(cluster: "flame.Connection") -> Table:
    """Applications, by name."""
    rows: list[list[object]] = []
    for view in sorted(cluster.list_applications(), key=lambda view: view.name):
        spec = view.spec
        what = spec.service or " ".join([spec.command, *spec.arguments]).strip() or spec.image
        row = [view.name, _words(view.state), _words(spec.shim), what or "-"]
        rows.append([*row, tables.local_time(view.created_ms)])
    return ["Name", "State", "Shim", "Service", "Created"], rows


def executors(cluster: "flame.Connection") -> Table:
    """Executors, by node, with the path of their log."""
    rows: list[list[object]] = []
    for view in sorted(cluster.list_executors(), key=lambda view: (view.node, view.id)):
        row = [view.id, _words(view.state), view.node, _shown(view.resources)]
        rows.append([*row, view.session_id or "-", view.log_path or "-"])
    return ["ID", "State", "Node", "Resources", "Session", "Log"], rows


def nodes(cluster: "flame.Connection") -> Table:
    """Nodes, by name."""
    rows: list[list[object]] = []
    for view in sorted(cluster.list_nodes(), key=lambda view: view.name):
        row = [view.name, _words(view.state), _shown(view.capacity), _shown(view.allocatable)]
        rows.append([*row, view.arch or "-", view.os or "-"])
    return ["Name", "State", "Capacity", "Allocatable", "Arch", "OS"], rows


def session_view(cluster: "flame.Connection", session_id: str) -> Pairs:
    """One session, with its warnings.

    Raises:
        NotFound: there is no such session.
    """
    view = cluster.get_session(session_id)
    spec = view.spec
    most = "unlimited" if spec.max_instances is None else spec.max_instances
    rows: Pairs = [
        ("ID", view.id),
        ("State", _words(view.state)),
        ("Application", spec.application),
        ("Resources", _shown(spec.resources)),
        ("Priority", spec.priority),
        ("Instances", f"{spec.min_instances} to {most}"),
        ("Executors", _bound(cluster)[view.id]),
        ("Pending", view.pending),
        ("Running", view.running),
        ("Succeed", view.succeed),
        ("Failed", view.failed),
        ("Cancelled", view.cancelled),
        ("Created", tables.local_time(view.created_ms)),
    ]
    if view.closed_ms is not None:
        rows.append(("Closed", tables.local_time(view.closed_ms)))
    return rows + [("Warning", warning) for warning in view.warnings]


def counts(endpoint: str) -> Pairs:
    """How much a cluster has."""
    with connect(endpoint) as cluster:
        states = Counter(view.state for view in cluster.list_sessions())
        return [
            ("nodes", f"{_ready_nodes(cluster)} ready"),
            ("executors", f"{len(cluster.list_executors())}, {_bound(cluster).total()} bound"),
            ("sessions", f"{states[SessionState.OPEN]} open, {states[SessionState.CLOSED]} closed"),
        ]


def _ready_nodes(cluster: "flame.Connection", timeout_s: float = CALL_TIMEOUT_S) -> int:
    return sum(view.state == NodeState.READY for view in cluster.list_nodes(timeout=timeout_s))


def _bound(cluster: "flame.Connection") -> Counter[str]:
    """Session to the number of executors bound to it."""
    return Counter(view.session_id for view in cluster.list_executors() if view.state == ExecutorState.BOUND)


def _words(state: IntEnum) -> str:
    """A state in words: `NOT_READY` is shown as `NotReady`."""
    return "".join(word.capitalize() for word in state.name.split("_"))


def _shown(resources: Resources | None) -> str:
    """Resources as they are asked for, the memory rounded where that is easier to read."""
    if resources is None:
        return "default"
    return f"cpu={resources.cpu},mem={round_bytes(resources.memory_bytes)}" + (
        f",gpu={resources.gpu}" if resources.gpu else ""
    )

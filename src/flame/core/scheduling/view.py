"""What the scheduler sees, and what it answers: data only."""

import msgspec

from flame.model.resources import Resources


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session that wants executors or has some.

    Args:
        least: executors it is held to (`min_instances` while open).
        wants: executors it can use now, `least` included, its maximum respected.
        used_ms: executor time it has had; the smaller, the sooner its turn.
        startable: False while a failed start is backing off.
    """

    number: int
    priority: int
    resources: Resources
    least: int
    wants: int
    used_ms: int
    startable: bool = True


class ExecutorView(msgspec.Struct, frozen=True, kw_only=True):
    """An executor that occupies a place on a node.

    Args:
        session: the session it is bound to, or 0.
        idle: it holds no task.
        leaving: it is on its way out of its session.
    """

    id: str
    node: str
    resources: Resources
    session: int = 0
    idle: bool = False
    leaving: bool = False


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node that can take executors. `max_executors` 0 means that only its capacity limits it."""

    name: str
    capacity: Resources
    max_executors: int = 0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as the scheduler sees it; each list in a fixed order."""

    sessions: tuple[SessionView, ...]
    executors: tuple[ExecutorView, ...]
    nodes: tuple[NodeView, ...]
    rotation_ms: int


class Bind(msgspec.Struct, frozen=True):
    """Bind an executor to a session: an idle one by id, or a new one (empty id) on a node."""

    session: int
    node: str
    executor: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        bind: executors to bind, in order.
        unbind: executors that leave their session after the task they run; no more than are needed.
        remove: idle executors that give up their place.
        contended: some session wants more than it was given.
    """

    bind: tuple[Bind, ...] = ()
    unbind: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    contended: bool = False

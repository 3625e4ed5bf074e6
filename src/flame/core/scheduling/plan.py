"""`plan(view) -> Plan`: who gets how many executors, where, and who gives one up.

The share of each session is found by progressive filling (max-min fairness; Bertsekas and Gallager, Data Networks,
section 6.5): executors are granted one by one, each to the session that comes first. First come the minimums, then
higher priorities; among equals the one with the fewest executors, and among those the one that has used the least
executor time. Whoever holds an executor keeps it until another is `rotation_ms` behind, so that the rest of an
uneven division goes round instead of starving somebody.

Grants are placed on imagined empty nodes, a session's existing executors first where they are, so that the share is
one that can be reached. The difference to what is bound now is the plan: nobody moves without need, free room is used
at once, and where there is none, sessions above their share give up as many executors as that takes, idle ones first,
busy ones after their task.
"""

from heapq import heapify, heappop, heapreplace

from flame.core.scheduling.view import Bind, ExecutorView, NodeView, Plan, SessionView, View
from flame.model.resources import Resources


class _Room:
    """What is left on a node."""

    __slots__ = ("places", "resources")

    def __init__(self, places: int, resources: Resources) -> None:
        self.places = places
        self.resources = resources

    @classmethod
    def of(cls, node: NodeView) -> "_Room":
        return cls(node.max_executors or 1 << 30, node.capacity)

    def fits(self, amount: Resources) -> bool:
        return self.places > 0 and amount.fits(self.resources)

    def take(self, amount: Resources) -> None:
        self.places -= 1
        self.resources = self.resources.minus(amount)

    def give(self, amount: Resources) -> None:
        self.places += 1
        self.resources = self.resources.plus(amount)

    def copy(self) -> "_Room":
        return _Room(self.places, self.resources)


def plan(view: View) -> Plan:
    """Decide what to bind, unbind and remove; pure, and the same for the same view."""
    nodes = {node.name: node for node in view.nodes}
    bound: dict[int, list[ExecutorView]] = {session.number: [] for session in view.sessions}
    for executor in view.executors:
        if executor.session in bound and not executor.leaving:
            bound[executor.session].append(executor)
    for executors in bound.values():
        executors.sort(key=lambda executor: (executor.node not in nodes, executor.idle))
    shares, packed = _fill(view, nodes, bound)
    binds, removed, short = _bind(view, nodes, bound, shares)
    unbind: list[str] = []
    if short:
        stay = _stay(view, nodes, bound, shares)
        _release(view, nodes, packed if stay is None else stay, binds, removed, unbind, short)
    contended = bool(short) or any(s.wants > shares[s.number] and _fits_empty(view, s) for s in view.sessions)
    return Plan(bind=tuple(binds), unbind=tuple(unbind), remove=tuple(removed), contended=contended)


def _fits_empty(view: View, session: SessionView) -> bool:
    return any(session.resources.fits(node.capacity) for node in view.nodes)


def _rank(session: SessionView, granted: int, held: int, rotation_ms: int) -> tuple[bool, int, int, int, int]:
    bonus = rotation_ms if granted < held else 0
    return (granted >= session.least, -session.priority, granted, session.used_ms - bonus, session.number)


def _fill(
    view: View, nodes: dict[str, NodeView], bound: dict[int, list[ExecutorView]]
) -> tuple[dict[int, int], dict[str, None]]:
    """Grant executors one by one on imagined empty nodes.

    Returns:
        Executors per session, and the existing executors that are part of it.
    """
    rooms = {name: _Room.of(node) for name, node in nodes.items()}
    shares = {session.number: 0 for session in view.sessions}
    keep: dict[str, None] = {}
    sessions = {session.number: session for session in view.sessions}
    heap = [(_rank(s, 0, len(bound[s.number]), view.rotation_ms), s.number) for s in view.sessions if s.wants > 0]
    heapify(heap)
    while heap:
        session = sessions[heap[0][1]]
        granted = shares[session.number]
        executors = bound[session.number]
        # Existing executors come in order, so the one to keep is the one with this index, if its node has room.
        own = next((e for e in executors[granted:] if e.id not in keep and _fits(rooms, e.node, e.resources)), None)
        place = own.node if own else _roomiest(rooms, session.resources)
        if place is None:
            heappop(heap)
            continue
        rooms[place].take(own.resources if own else session.resources)
        if own:
            keep[own.id] = None
        shares[session.number] = granted + 1
        if granted + 1 < session.wants:
            rank = _rank(session, granted + 1, len(executors), view.rotation_ms)
            heapreplace(heap, (rank, session.number))
        else:
            heappop(heap)
    return shares, keep


def _stay(
    view: View, nodes: dict[str, NodeView], bound: dict[int, list[ExecutorView]], shares: dict[int, int]
) -> dict[str, None] | None:
    """The executors to keep if each session keeps as many as its share allows, wherever they are.

    Returns:
        None if what is missing then does not fit beside them: some have to move.
    """
    rooms = {name: _Room.of(node) for name, node in nodes.items()}
    keep = {e.id: e for session in view.sessions for e in bound[session.number][: shares[session.number]]}
    for executor in keep.values():
        if executor.node in rooms:
            rooms[executor.node].take(executor.resources)
    for session in view.sessions:
        for _ in range(shares[session.number] - len(bound[session.number])):
            place = _roomiest(rooms, session.resources)
            if place is None:
                return None
            rooms[place].take(session.resources)
    return dict.fromkeys(keep)


def _fits(rooms: dict[str, _Room], node: str, amount: Resources) -> bool:
    return node in rooms and rooms[node].fits(amount)


def _roomiest(rooms: dict[str, _Room], amount: Resources) -> str | None:
    """The node with the most CPUs left that takes this amount; the first among equals."""
    best, most = None, -1
    for name, room in rooms.items():
        if room.resources.cpu > most and room.fits(amount):
            best, most = name, room.resources.cpu
    return best


def _bind(
    view: View, nodes: dict[str, NodeView], bound: dict[int, list[ExecutorView]], shares: dict[int, int]
) -> tuple[list[Bind], list[str], list[SessionView]]:
    """Bind to idle executors and to free room what sessions are short of.

    Returns:
        The binds, the idle executors removed to make room, and the session of each grant that found no room.
    """
    rooms = {name: _Room.of(node) for name, node in nodes.items()}
    spare: list[ExecutorView] = []
    for executor in view.executors:
        if executor.session == 0 and not executor.leaving:
            spare.append(executor)
        elif executor.node in rooms:
            rooms[executor.node].take(executor.resources)
    for executor in list(spare):
        if _fits(rooms, executor.node, executor.resources):
            rooms[executor.node].take(executor.resources)
        else:
            spare.remove(executor)
    binds: list[Bind] = []
    removed: list[str] = []
    short: list[SessionView] = []
    order = sorted(view.sessions, key=lambda s: _rank(s, len(bound[s.number]), 0, 0))
    for session in order:
        missing = shares[session.number] - len(bound[session.number]) if session.startable else 0
        for _ in range(missing):
            same = next((e for e in spare if e.resources == session.resources), None)
            if same is not None:
                spare.remove(same)
                binds.append(Bind(session.number, same.node, same.id))
                continue
            node = _roomiest(rooms, session.resources) or _clear(rooms, spare, removed, session.resources)
            if node is None:
                short.append(session)
                continue
            rooms[node].take(session.resources)
            binds.append(Bind(session.number, node))
    return binds, removed, short


def _clear(rooms: dict[str, _Room], spare: list[ExecutorView], removed: list[str], amount: Resources) -> str | None:
    """Remove idle executors until this amount fits somewhere; all of them if need be, none if it is in vain."""
    gone: list[ExecutorView] = []
    for executor in spare:
        room = rooms[executor.node]
        room.give(executor.resources)
        gone.append(executor)
        if room.fits(amount):
            removed.extend(e.id for e in gone)
            spare[:] = [e for e in spare if e not in gone]
            return executor.node
    for executor in gone:
        rooms[executor.node].take(executor.resources)
    return None


def _release(
    view: View,
    nodes: dict[str, NodeView],
    keep: dict[str, None],
    binds: list[Bind],
    removed: list[str],
    unbind: list[str],
    short: list[SessionView],
) -> None:
    """Let executors beyond their session's share go, as many as make room for what is `short`.

    What is on its way out already counts as room.
    """
    rooms = {name: _Room.of(node) for name, node in nodes.items()}
    surplus: dict[str, list[ExecutorView]] = {name: [] for name in nodes}
    reused = [bind.executor for bind in binds if bind.executor]
    resources = {session.number: session.resources for session in view.sessions}
    for executor in view.executors:
        if executor.node not in rooms or executor.leaving or executor.id in removed:
            continue
        rooms[executor.node].take(executor.resources)
        if executor.id not in keep and executor.id not in reused:
            surplus[executor.node].append(executor)
    for bind in binds:
        if not bind.executor:
            rooms[bind.node].take(resources[bind.session])
    for executors in surplus.values():
        executors.sort(key=_reluctance)
    for session in short:
        place = _roomiest(rooms, session.resources)
        if place is None:
            place, count = _cheapest(rooms, surplus, session.resources)
            if not place:
                continue
            for executor in surplus[place][:count]:
                rooms[place].give(executor.resources)
                (unbind if executor.session else removed).append(executor.id)
            del surplus[place][:count]
        rooms[place].take(session.resources)


def _reluctance(executor: ExecutorView) -> int:
    """Which executor goes first: one without a session, then an idle one."""
    return 0 if executor.session == 0 else 1 if executor.idle else 2


def _cheapest(rooms: dict[str, _Room], surplus: dict[str, list[ExecutorView]], amount: Resources) -> tuple[str, int]:
    """The node where this amount fits after the fewest busy executors, then the fewest at all, have gone.

    Returns:
        The node and how many of its surplus executors have to go; no node if it is in vain.
    """
    best, price = ("", 0), (1 << 30, 0)
    for name, executors in surplus.items():
        room, busy = rooms[name].copy(), 0
        for count, executor in enumerate(executors, 1):
            room.give(executor.resources)
            busy += _reluctance(executor) == 2
            if room.fits(amount):
                if (busy, count) < price:
                    best, price = (name, count), (busy, count)
                break
    return best

"""What clients of a simulation ask for: sizes of worlds, plans of sessions, and what each task does."""

from random import Random

import msgspec

from flame.model.limits import MAX_TASK_BYTES
from flame.model.specs import SessionSpec

BEHAVIORS = ("ok", "fail", "abort", "abort once")
_GIANT_RATE = 0.1
"""Share of the worlds that have a task as large as it may be, and of those that have one that is larger."""
_LONE_GIANT_RATE = 0.2


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How large a world is.

    Args:
        nodes: executor managers, of 1 to 3 places each.
        sessions: over all clients.
        tasks: over all sessions, about.
        large: share of them with an input or output that may be large.
    """

    nodes: int = 10
    sessions: int = 10
    tasks: int = 5_000
    large: float = 0.02


DEFAULT = Size()


class TaskKind(msgspec.Struct, frozen=True, array_like=True):
    """What a task of the simulation does; its input is this, as JSON.

    Args:
        number: no two tasks have the same; 0 if the input is empty, which says no more.
        behavior: `ok`, `fail` (raises), `abort` (ends its process each time) or `abort once`.
        starve: the control thread gets no time while it runs.
        output_bytes: length of the output, beside its number; -1 if it is empty.
        padding: makes the input large.
    """

    number: int
    behavior: str = "ok"
    duration_us: int = 0
    starve: bool = False
    output_bytes: int = 0
    padding: str = ""

    def input(self) -> bytes:
        """What is submitted."""
        return msgspec.json.encode(self) if self.number else b""

    def output(self) -> bytes:
        """What it answers."""
        return b"%d" % self.number + bytes(self.output_bytes) if self.output_bytes >= 0 else b""

    def sized(self, nbytes: int) -> "TaskKind":
        """The same with an input of so many bytes."""
        bare = msgspec.structs.replace(self, padding="")
        return msgspec.structs.replace(bare, padding="x" * (nbytes - len(bare.input())))


_decode = msgspec.json.Decoder(TaskKind).decode


def kind_of(task_input: bytes) -> TaskKind:
    """What a task with this input does."""
    return _decode(task_input) if task_input else TaskKind(0)


class SessionPlan(msgspec.Struct, kw_only=True):
    """What a client does with one session.

    Args:
        name: of the session.
        tasks: how many it submits.
        burst: how many at a time, about.
        pause_ms: the longest pause between two bursts.
        cancels: how many ranges it asks to cancel.
        close_early: it closes the session with tasks in it.
        slow_ms: it takes results this much later than they come; 0 at once.
        delete: it deletes the session in the end, and `again` does all of it once more under the same name.
        repeats: after a reconnect it sends again whatever was not acknowledged, also what it is told is stored.
        mapped: it submits through a feed, as a `map` does.
        others: so many other clients submit to the session too, a part of the tasks each.
        readers: so many other clients read all results.
        unary: so many tasks a unary client creates and watches, one by one; the session ends by unary calls then.
    """

    name: str
    spec: SessionSpec
    tasks: int
    burst: int
    pause_ms: int
    cancels: int = 0
    close_early: bool = False
    slow_ms: int = 0
    delete: bool = False
    again: bool = False
    repeats: bool = False
    mapped: bool = False
    others: int = 0
    readers: int = 0
    unary: int = 0


class Workload:
    """Draws plans and tasks.

    Args:
        random: where everything comes from, except
        sizes: which tasks are empty or giant.
        size: of the world.
    """

    def __init__(self, random: Random, sizes: Random, size: Size) -> None:
        self._random = random
        self._sizes = sizes
        self._empty_rate = sizes.choice((0, 0, 0.005, 0.05))
        self._full, self._over = (sizes.randrange(size.tasks) * (sizes.random() < _GIANT_RATE) for _ in range(2))
        self._behaviors = random.choices(BEHAVIORS, (60, 2, 0.5, 1), k=200)
        self._longest_us = random.choice((50, 2_000, 20_000, 100_000))
        self._long_rate = min(0.01, 20 / size.tasks)
        self._output_bytes = random.choice((0, 0, 0, 0, 2_000, 100_000))
        self._padding = random.choice(("", "", "", "x" * 2_000, "x" * 20_000))
        self._size = size

    def plans(self) -> list[SessionPlan]:
        """A plan for each session; few have most of the tasks."""
        random, size = self._random, self._size
        weights = [random.choice((1, 5, 25)) for _ in range(size.sessions)]
        return [self._plan(number, 1 + size.tasks * weight // sum(weights)) for number, weight in enumerate(weights)]

    def _plan(self, number: int, tasks: int) -> SessionPlan:
        random = self._random
        least = random.choice((0, 0, 0, 1))
        spec = SessionSpec(
            application="sim",
            min_instances=least,
            max_instances=random.choice((None, None, least + 1, least + 4)),
            priority=random.choice((0, 0, 0, 1)),
        )
        delete = random.random() < 0.3
        return SessionPlan(
            name=f"s{number}",
            spec=spec,
            tasks=tasks,
            burst=random.choice((1 + tasks // 100, 10 + tasks // 20, tasks)),
            pause_ms=random.choice((1, 20, 100)),
            cancels=random.choice((0, 0, 1, 5)),
            close_early=random.random() < 0.2,
            slow_ms=random.choice((0, 0, 0, 50)),
            delete=delete,
            again=delete and random.random() < 0.5,
            repeats=random.random() < 0.5,
            mapped=random.random() < 0.3,
            others=random.choice((0, 0, 0, 1, 2)),
            readers=random.choice((0, 0, 1)),
            unary=random.choice((0, 0, 3, 20)),
        )

    def task(self, number: int, *, alone: bool = False) -> TaskKind:
        """What the next task is to do; `alone` if no other suffers where it is refused."""
        kind, odd = self._usual(number), self._sizes.random()
        if number == self._over or (alone and self._over and odd < _LONE_GIANT_RATE):
            return kind.sized(MAX_TASK_BYTES + 1)
        if number == self._full:
            return kind.sized(MAX_TASK_BYTES)
        if odd < self._empty_rate:
            return TaskKind(0)
        return msgspec.structs.replace(kind, output_bytes=-1) if odd < 2 * self._empty_rate else kind

    def _usual(self, number: int) -> TaskKind:
        random = self._random
        long = random.random() < self._long_rate
        large = random.random() < self._size.large
        return TaskKind(
            number,
            random.choice(self._behaviors),
            random.randrange(500_000, 3_000_000) if long else random.randrange(1, self._longest_us),
            (long and random.random() < 0.5) or random.random() < 0.02,
            self._output_bytes if large else 0,
            self._padding if large else "",
        )

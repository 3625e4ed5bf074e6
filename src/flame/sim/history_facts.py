"""What a `History` remembers: sessions with columns of numbers per task, who read what, and processes."""

from array import array
from collections.abc import Iterator, Sequence

from flame.kernel.ranges import RangeSet
from flame.model.limits import BLOCK_TASKS


class Process:
    """A process of a service: an executor under one binding.

    Attributes:
        first_ns, last_ns: when it was heard of first and last.
        running: the task that it has started and not ended, or 0.
        charged, or_charged: the task that its end is charged to, or 0; where that is not sure, one of the two.
        ended_ns: when it was known to be gone; `well` if nothing that it had finished was lost with it.
        lease_end_ns: when the lease it runs under was over.
        uncounted_ns: since when its lease may have been over.
        unsure_ns: since when nobody could know what it holds.
    """

    __slots__ = (
        "binding", "cause", "charged", "ended_ns", "executor", "first_ns", "last_ns", "lease_end_ns", "node", "number",
        "or_charged", "places", "running", "session", "uncounted_ns", "unsure_cause", "unsure_ns", "well",
    )  # fmt: skip

    def __init__(self, executor: str, binding: int, session: str, at_ns: int, *, number: int) -> None:
        self.executor = executor
        self.binding = binding
        self.session = session
        self.number = number
        self.node = ""
        self.places = 1
        self.first_ns = at_ns
        self.last_ns = at_ns
        self.running = 0
        self.charged = 0
        self.or_charged = 0
        self.ended_ns: int | None = None
        self.well = False
        self.cause = ""
        self.lease_end_ns: int | None = None
        self.uncounted_ns: int | None = None
        self.unsure_ns: int | None = None
        self.unsure_cause = ""

    def __str__(self) -> str:
        return f"executor {self.executor} (binding {self.binding})"

    def unsure(self, at_ns: int) -> bool:
        """Whether at that time nobody could know what it holds."""
        return self.unsure_ns is not None and self.unsure_ns <= at_ns

    @property
    def suspects(self) -> tuple[int, ...]:
        """The tasks that its end may be charged to; of one that was never heard of again, what it ran last."""
        return (self.running,) if self.ended_ns is None else (self.charged, self.or_charged)

    def changes(self) -> Iterator[tuple[int, int, int]]:
        """When it takes its places and when it gives them back (which comes first where both are at one time)."""
        ends = [end for end in (self.ended_ns, self.lease_end_ns, self.uncounted_ns) if end is not None]
        end_ns = min(ends, default=self.last_ns)
        if end_ns > self.first_ns:
            yield self.first_ns, self.places, self.number
            yield end_ns, -self.places, self.number


class Reader:
    """Somebody who is given outcomes: a client that submits, one that only reads, or the store.

    Attributes:
        submitted: tasks of its own.
        refused: tasks of which it was told that no outcome comes.
        seen: tasks whose outcome it was given.
        sequence: of the last segment that it was given.
        finished: whether it has everything that it will ever get.
    """

    __slots__ = ("finished", "name", "refused", "seen", "sequence", "submitted")

    def __init__(self, name: str) -> None:
        self.name = name
        self.submitted = RangeSet()
        self.refused = RangeSet()
        self.seen = RangeSet()
        self.sequence = 0
        self.finished = False


class _Columns:
    """A number of each kind per task of one block of ids; 0 where nothing is known."""

    __slots__ = ("attempts", "computed", "inputs", "outcomes", "recorded_ns", "runs", "sequences")

    def __init__(self) -> None:
        self.inputs = array("q")
        self.outcomes = array("q")
        self.computed = array("q")
        self.recorded_ns = array("q")
        self.sequences = array("q")
        self.attempts = array("q")
        self.runs = array("i")

    def grow(self, length: int) -> None:
        more = length - len(self.inputs)
        if more > 0:
            for name in self.__slots__:
                column = getattr(self, name)
                column.frombytes(bytes(more * column.itemsize))


class SessionFacts:
    """What is known about one session.

    Attributes:
        submitted, acknowledged, cancel_asked, cancelled, not_stored: tasks of which somebody said so.
        store: the outcomes of the store, as those of another reader.
        reruns: time, task, number of a process that had started it before, number of the one that does now.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.max_instances: int | None = None
        self.submitted = RangeSet()
        self.acknowledged = RangeSet()
        self.cancel_asked = RangeSet()
        self.cancelled = RangeSet()
        self.not_stored = RangeSet()
        self.close_asked = False
        self.deleted = False
        self.start_failures = 0
        self.last_recorded_ns = 0
        self.readers: dict[str, Reader] = {}
        self.store = Reader("the store")
        self.reruns: list[tuple[int, int, int, int]] = []
        self._blocks: dict[int, _Columns] = {}
        self._more_runs: dict[int, list[int]] = {}
        self._more_computed: dict[int, list[int]] = {}

    def reader(self, name: str) -> Reader:
        """Who has this name; known from now on."""
        reader = self.readers.get(name)
        if reader is None:
            reader = self.readers[name] = Reader(name)
        return reader

    def place(self, task: int) -> tuple[int, _Columns]:
        """Where a submitted task stands, in which columns."""
        return (task - 1) % BLOCK_TASKS, self._blocks[(task - 1) // BLOCK_TASKS]

    def add(self, first: int, inputs: Sequence[int]) -> None:
        """Tasks are submitted."""
        block, start = divmod(first - 1, BLOCK_TASKS)
        columns = self._blocks.setdefault(block, _Columns())
        columns.grow(start + len(inputs))
        columns.inputs[start : start + len(inputs)] = array("q", inputs)

    def recorded_ns(self, task: int) -> int:
        """When an outcome of a task was first seen, or 0."""
        place, columns = self.place(task)
        return columns.recorded_ns[place]

    def record(self, at_ns: int, first: int, outcomes: Sequence[int], sequence: int) -> list[tuple[int, str, int, int]]:
        """Outcomes are seen; returns where they differ from what others saw: task, in what, before, now."""
        start, columns = self.place(first)
        end = start + len(outcomes)
        new = array("q", outcomes)
        self.last_recorded_ns = max(self.last_recorded_ns, at_ns)
        differ: list[tuple[int, str, int, int]] = []
        if not any(columns.outcomes[start:end]):
            columns.outcomes[start:end] = new
            columns.recorded_ns[start:end] = array("q", (at_ns,)) * len(new)
            columns.sequences[start:end] = array("q", (sequence,)) * len(new)
            return differ
        for place, outcome in enumerate(new, start):
            for what, column, value in (
                ("outcome", columns.outcomes, outcome),
                ("segment", columns.sequences, sequence),
            ):
                if not column[place]:
                    column[place] = value
                elif value and column[place] != value:
                    differ.append((first + place - start, what, column[place], value))
            columns.recorded_ns[place] = columns.recorded_ns[place] or at_ns
        return differ

    def runs_of(self, task: int) -> list[int]:
        """Numbers of the processes that started a task, in order."""
        place, columns = self.place(task)
        run = columns.runs[place]
        return [run - 1, *self._more_runs.get(task, ())] if run else []

    def ran(self, task: int, process: int) -> None:
        """A process starts a task."""
        place, columns = self.place(task)
        if columns.runs[place]:
            self._more_runs.setdefault(task, []).append(process)
        else:
            columns.runs[place] = process + 1

    def computed(self, task: int, outcome: int) -> None:
        """A process has answered a task."""
        place, columns = self.place(task)
        if not columns.computed[place]:
            columns.computed[place] = outcome
        elif columns.computed[place] != outcome:
            self._more_computed.setdefault(task, []).append(outcome)

    def odd_outcomes(self) -> Iterator[tuple[int, int, int]]:
        """Tasks whose outcome is not just what a process answered: task, outcome, when it was seen."""
        for block, columns in self._blocks.items():
            if columns.outcomes == columns.computed:
                continue
            first = block * BLOCK_TASKS + 1
            for place, outcome in enumerate(columns.outcomes):
                task = first + place
                if outcome and outcome != columns.computed[place] and outcome not in self._more_computed.get(task, ()):
                    yield task, outcome, columns.recorded_ns[place]

    def outcomes(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The outcomes of tasks that have one: task, outcome, when it was seen."""
        start, columns = self.place(first)
        for place in range(start, min(start + end - first, len(columns.outcomes))):
            if columns.outcomes[place]:
                yield first + place - start, columns.outcomes[place], columns.recorded_ns[place]

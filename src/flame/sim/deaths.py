"""How often a task may end its process: never more than the limit, wherever the session manager cannot have missed it.

A `History` knows of too few deaths: a task that failed for its deaths has to have had them. This is the other bound. A
death counts here once its node was told that it is dealt with, unless something excuses that it was not charged to
the task: its node had ended the process, or its lease was over, or it was silent when others could be given up. Then
it is not told of at all. A restart of the session manager excuses nothing.
"""

from collections import Counter

from flame.model.limits import MAX_TASK_DEATHS
from flame.sim.history import Rule, Violation


class Deaths:
    """Counts deaths of executors by the tasks that they ran.

    Attributes:
        broken: what is wrong with them.

    Example:
        >>> deaths = Deaths()
        >>> for number in range(MAX_TASK_DEATHS):
        ...     deaths.counted(number, "s", 7, f"executor {number}")
        >>> deaths.started(9_000_000, "s", 7, "executor 9")
        >>> [str(violation) for violation in deaths.broken]
        ['died too often: session s, task 7, at 9.000 ms: executor 9 starts it, and 3 have died of it']
    """

    def __init__(self) -> None:
        self.broken: list[Violation] = []
        self._deaths: Counter[tuple[str, int]] = Counter()

    def counted(self, at_ns: int, session: str, task: int, process: str) -> None:
        """A process has ended while it ran a task, by itself, and nothing excuses that this was not counted."""
        deaths = self._deaths[session, task] = self._deaths[session, task] + 1
        if deaths > MAX_TASK_DEATHS:
            text = f"{process} has died of it, as {MAX_TASK_DEATHS} before"
            self.broken.append(Violation(Rule.DIED_TOO_OFTEN, at_ns, session, task, text))

    def started(self, at_ns: int, session: str, task: int, process: str) -> None:
        """A process starts a task; not to be told of one that may run beside others, because it was out of reach."""
        if self._deaths.get((session, task), 0) >= MAX_TASK_DEATHS:
            text = f"{process} starts it, and {MAX_TASK_DEATHS} have died of it"
            self.broken.append(Violation(Rule.DIED_TOO_OFTEN, at_ns, session, task, text))

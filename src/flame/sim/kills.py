"""Where the session manager of a simulation is killed: at points of a turn or of a start, and at kinds of writes."""

from collections.abc import Sequence
from random import Random

from flame.model.records import (
    DeleteBinding,
    DeleteSession,
    PutBinding,
    PutBlock,
    PutChunk,
    PutDeaths,
    PutSegment,
    PutSession,
    Write,
)
from flame.sim.virtual import NS_PER_MS

POINTS = ("before commit", "in commit", "after commit", "between effects")
"""Points of a turn."""
RECOVERY_POINTS = ("after open", "in recovery", "in its first commit", "in grace")
"""Points of a start: before the store is read, before anything is done, where something is stored first, and while
those are waited for who were there before."""
WRITES: tuple[type[Write], ...] = (
    PutSession,
    DeleteSession,
    PutSegment,
    PutChunk,
    PutBlock,
    PutBinding,
    DeleteBinding,
    PutDeaths,
)
"""Kinds of writes that it is killed with."""
_AROUND_A_WRITE = ("before commit", "in commit", "in commit", "after commit")
"""With a write, it is most telling to end where what was told too early has arrived, and nothing is durable."""
_LONG_COMMIT_NS = 60 * NS_PER_MS
"""So long may that take, that what was told too early arrives."""


class Aim:
    """Where a session manager is to be killed next.

    Attributes:
        at: a point, or empty.
        then: the point of its next start where it is to be killed again, or empty.
        kinds: of writes; the next batch that has one of them chooses a point of its turn.

    Example:
        >>> aim = Aim()
        >>> aim.at = "in commit"
        >>> aim.hit("before commit"), aim.hit("in commit")
        ('', 'killed in commit')
    """

    def __init__(self) -> None:
        self.at = self.then = ""
        self.kinds: list[type[Write]] = []
        self._kind = ""

    @property
    def waits(self) -> bool:
        """Whether the next one is to be killed as well."""
        return bool(self.at or self.kinds)

    def slowest_ns(self, usual_ns: int) -> int:
        """The longest commit of the batch under way, in ns; one that has chosen the point is not survived."""
        return max(usual_ns, _LONG_COMMIT_NS) if self.at and self._kind else usual_ns

    def clear(self) -> None:
        """It is not to be killed any more."""
        self.at = self.then = self._kind = ""
        self.kinds.clear()

    def ended(self) -> None:
        """It is dead; what is left waits for the next one."""
        self.at, self.then, self._kind = self.then, "", ""

    def look_at(self, writes: Sequence[Write], random: Random) -> None:
        """A batch is about to be stored: if it has a write that was waited for, that is the end of it."""
        for kind in self.kinds:
            if any(isinstance(write, kind) for write in writes):
                self.kinds.remove(kind)
                self.at, self._kind = random.choice(_AROUND_A_WRITE), kind.__name__
                return

    def hit(self, point: str) -> str:
        """What to count if it is to be killed at this point, or empty."""
        if self.at != point:
            return ""
        return f"killed with {self._kind}" if self._kind else f"killed {point}"

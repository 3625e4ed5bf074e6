"""How long to wait between attempts to connect."""

import time
from collections.abc import Callable
from typing import Final

from flame.model.endpoint import Endpoint

SHORT_LINK_S: Final = 1.0
"""After a link that was over sooner, the pauses go on to grow."""
_FIRST_S: Final = 0.02
_LONGEST_S: Final = 1.0
_LONGEST_LOCAL_S: Final = 0.2
"""On one machine peers are back the sooner. While nobody listens, the kernel refuses an attempt within microseconds,
and the session manager that starts hears of none; then each peer comes once, and 5,000 of them, whose pauses differ at
random, are spread over the longest pause: 25,000 a second, of which those that wait queue up in the listener."""


class Pauses:
    """Growing pauses, which begin anew after a link that lasted.

    Up to half of each is left out at random: peers that lost a session manager at one moment do not come back at one.

    Args:
        endpoint: as `flame.model.endpoint` reads it.
        clock: the time in seconds.

    Example:
        >>> pauses = Pauses("unix:///run/flame.sock")
        >>> pauses.before_first()
        0.0
        >>> 0.01 <= pauses.next() <= 0.02
        True
    """

    def __init__(self, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._longest_s = _LONGEST_LOCAL_S if Endpoint.parse(endpoint).is_local else _LONGEST_S
        self._pause_s = _FIRST_S
        self._linked_at_s: float | None = None

    def linked(self) -> None:
        """There is a link."""
        self._linked_at_s = self._clock()

    def before_first(self) -> float:
        """How long to wait, in seconds, before the first attempt after a link: no time, unless it was a short one.

        Who takes links and drops them is not asked again and again without a pause.
        """
        if self._linked_at_s is not None and self._clock() - self._linked_at_s <= SHORT_LINK_S:
            return self.next()
        self._pause_s = _FIRST_S
        return 0.0

    def next(self) -> float:
        """How long to wait, in seconds, before another attempt."""
        from random import uniform  # nobody needs it who connects at once

        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._longest_s)
        return uniform(pause_s / 2, pause_s)

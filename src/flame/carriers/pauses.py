"""How long to wait between attempts to connect."""

from collections.abc import Iterator

_FIRST_S = 0.02
_LONGEST_S = 1.0
_LONGEST_LOCAL_S = 0.2
"""On one machine peers are back the sooner. While nobody listens, the kernel refuses an attempt within microseconds,
and the session manager that starts hears of none; then each peer comes once, and 5,000 of them, whose pauses differ at
random, are spread over the longest pause: 25,000 a second, of which those that wait queue up in the listener."""
_LOCAL = ("unix:", "frames://127.", "frames://localhost:", "frames://[::1]:", "http://127.", "http://localhost:")


def pauses(endpoint: str) -> Iterator[float]:
    """Growing pauses in seconds, without end.

    Up to half of each is left out at random: peers that lost a session manager at one moment do not come back at one.

    Args:
        endpoint: as `flame.model.endpoint` reads it.

    Example:
        >>> pause_s = next(pauses("unix:///run/flame.sock"))
        >>> 0.01 <= pause_s <= 0.02
        True
    """
    from random import uniform  # nobody needs it who connects at once

    longest_s = _LONGEST_LOCAL_S if endpoint.startswith(_LOCAL) else _LONGEST_S
    pause_s = _FIRST_S
    while True:
        yield uniform(pause_s / 2, pause_s)
        pause_s = min(2 * pause_s, longest_s)

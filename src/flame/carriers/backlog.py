"""What all peers together have not read yet: bounded, whatever the carrier.

One link alone is bounded by `MAX_LINK_BUFFER_BYTES`; thousands of peers that each stay below that are not.
"""

from collections.abc import Callable
from typing import Protocol

from flame.model.limits import MAX_UNREAD_BYTES


class Unread(Protocol):
    """A link, as far as it matters here."""

    def buffered_bytes(self) -> int:
        """Bytes queued and not yet taken by the operating system."""

    def fail(self, reason: str) -> None:
        """End the link at once, and say why."""


class Backlog:
    """The links to peers that read more slowly than they are written to.

    It costs nothing for a peer that keeps up. The sum over the others is taken anew only when so much has been queued
    since the last time that it may be too large, so the bound is kept to a sixteenth.

    Args:
        most_bytes: what may be queued for all of them; beyond it, the link for which most is queued is ended.
        ended: called after a link was ended.
    """

    def __init__(self, most_bytes: int = MAX_UNREAD_BYTES, ended: Callable[[], object] | None = None) -> None:
        self._most_bytes = most_bytes
        self._ended = ended
        self._slow: dict[Unread, None] = {}
        self._queued_bytes = 0
        self._look_at_bytes = most_bytes

    def queued(self, link: Unread, nbytes: int) -> None:
        """So much was queued for a peer that has not read all that was sent before."""
        self._slow[link] = None
        self._queued_bytes += nbytes
        if self._queued_bytes > self._look_at_bytes:
            self._look()

    def caught_up(self, link: Unread) -> None:
        """The peer has read all, or nearly; or its link is over."""
        self._slow.pop(link, None)

    def _look(self) -> None:
        waiting = {link: link.buffered_bytes() for link in self._slow}
        total = sum(waiting.values())
        while total > self._most_bytes:
            largest = max(waiting, key=lambda link: waiting[link])
            nbytes = waiting.pop(largest)
            self._slow.pop(largest, None)
            largest.fail(
                f"the other side does not read: of {total} bytes that wait for all peers, more than "
                f"{self._most_bytes}, it has the most, {nbytes}"
            )
            total -= nbytes
            if self._ended is not None:
                self._ended()
        self._queued_bytes = 0
        self._look_at_bytes = max(self._most_bytes - total, self._most_bytes // 16)

"""A turnstile for unary calls: few go through in one pass of the event loop, so that streams have their turn."""

import asyncio
from collections import deque

from flame.model.limits import KIB, MAX_UNARY_PER_TURN

PLACE_BYTES = 32 * KIB
"""What an answer may have for the price of a place: to make as many bytes more takes as long as another call."""


class Turnstile:
    """Lets `MAX_UNARY_PER_TURN` calls through in each pass of the event loop, in the order in which they came.

    A lone call does not wait. Everything else in the loop runs once between two batches: what has arrived on the
    streams is read, and one turn is made of it.

    Example:
        >>> async def answer(turnstile: Turnstile) -> str:
        ...     await turnstile.enter()
        ...     return "answered"
        >>> async def main() -> str:
        ...     return await answer(Turnstile())
        >>> asyncio.run(main())
        'answered'
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._places = MAX_UNARY_PER_TURN
        self._turning = False

    async def enter(self) -> None:
        """Wait for one's place."""
        self._start_turning()
        if self._places > 0:
            self._places -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place

    def charge(self, nbytes: int) -> None:
        """A call has an answer of so many bytes: where it is large, fewer go through in the next passes."""
        places = nbytes // PLACE_BYTES
        if places:
            self._start_turning()
            self._places -= places

    def _start_turning(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """A pass of the event loop has begun."""
        self._places = min(self._places, 0) + MAX_UNARY_PER_TURN
        while self._waiting and self._places > 0:
            place = self._waiting.popleft()
            if not place.done():  # its call may have been cancelled meanwhile
                place.set_result(None)
                self._places -= 1
        self._turning = self._places < MAX_UNARY_PER_TURN
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

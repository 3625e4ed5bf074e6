"""A turnstile for unary calls: few go through in one pass of the event loop, so that streams have their turn."""

import asyncio
from collections import deque

from flame.model.limits import MAX_UNARY_PER_TURN


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
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._places:
            self._places -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place

    def _turn(self) -> None:
        """A pass of the event loop has begun."""
        self._places = MAX_UNARY_PER_TURN
        while self._waiting and self._places:
            place = self._waiting.popleft()
            if not place.done():  # its call may have been cancelled meanwhile
                place.set_result(None)
                self._places -= 1
        self._turning = self._places < MAX_UNARY_PER_TURN
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

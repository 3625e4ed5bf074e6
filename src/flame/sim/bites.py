"""Faults that count once they have hit somebody: a full disk on which nobody writes is none."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from flame.sim.virtual import NS_PER_MS

if TYPE_CHECKING:
    from flame.sim.world import World

_LOOK_NS = 20 * NS_PER_MS
LATER = ("delay", "slow-reader", "full-disk", "clock")
"""Kinds that are not counted when they happen, but when they bite."""


class Bites:
    """Counts faults of these kinds in a world, each once."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def waiting(self, kind: str, least: int) -> Callable[[int], None]:
        """What a link is to call with how many messages had to wait: so many make it a fault."""
        bitten = False

        def waited(messages: int) -> None:
            nonlocal bitten
            if messages >= least and not bitten:
                bitten = True
                self._world.counts[f"fault {kind}"] += 1

        return waited

    def when(self, kind: str, happened: Callable[[], object], for_ns: int) -> None:
        """It bites when this has happened, within so long; it is looked at again and again."""
        time = self._world.time
        end_ns = time.now_ns + for_ns

        def look() -> None:
            if happened():
                self._world.counts[f"fault {kind}"] += 1
            elif time.now_ns < end_ns:
                time.after(_LOOK_NS, look)

        time.after(_LOOK_NS, look)

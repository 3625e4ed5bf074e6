"""What is looked at after each turn of a simulated session manager."""

from flame.core.control import invariants
from flame.core.control.entities import Settings
from flame.core.control.state import State
from flame.session_manager.pump import Pump
from flame.sim.memory import Memory

_WHOLE_TURNS = 64
"""Every so often, what looks as it did before is counted again all the same."""
_SETTLED_TURNS = 8
"""What only waits is seen as well some turns later; to make a plan in every turn would take most of the time."""


class Checks:
    """Of one life of a session manager: all raise `AssertionError`.

    Attributes:
        memory: is to hear of every message.
    """

    def __init__(self, settings: Settings) -> None:
        self.memory = Memory(settings.result_window_bytes)
        self._checker = invariants.Checker()
        self._turns = 0

    def after_turn(self, state: State, pump: Pump, now_ms: int) -> None:
        """The core has made a turn."""
        self._turns += 1
        self.memory.check_waiting(pump)
        self._checker.check(state)
        if self._turns % _WHOLE_TURNS == 0:
            invariants.check(state)
        if self._turns % _SETTLED_TURNS == 0:
            invariants.check_settled(state, now_ms)

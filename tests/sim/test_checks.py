"""What is wrong after a turn is noticed: at once, or some turns later where it only waits."""

import pytest

from flame.session_manager.pump import Pump
from flame.sim.checks import Checks
from tests.core.harness import SETTINGS, Core, one_session


def looked_at() -> tuple[Core, Pump, Checks]:
    core = one_session(cpu=1, tasks=10)
    core.start("1-1")
    checks = Checks(SETTINGS)
    pump = Pump(core.state)
    checks.after_turn(core.state, pump, core.now_ms)
    return core, pump, checks


def test_what_is_miscounted_is_noticed_at_once() -> None:
    core, pump, checks = looked_at()
    pump.waiting_bytes = 3
    with pytest.raises(AssertionError, match="3 bytes wait"):
        checks.after_turn(core.state, pump, core.now_ms)
    pump.waiting_bytes = 0
    core.state.places += 1
    with pytest.raises(AssertionError, match="places"):
        checks.after_turn(core.state, pump, core.now_ms)


def several(core: Core, pump: Pump, checks: Checks) -> None:
    for _ in range(100):
        checks.after_turn(core.state, pump, core.now_ms)


def test_what_nobody_sees_to_is_noticed_soon() -> None:
    core, pump, checks = looked_at()
    several(core, pump, checks)
    core.state.replan = True
    with pytest.raises(AssertionError, match="a plan is left to be made"):
        several(core, pump, checks)

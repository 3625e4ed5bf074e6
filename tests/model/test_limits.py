"""Limits: every bound is positive, and they fit together."""

import pytest

from flame.model import limits

NAMES = [name for name in vars(limits) if name.isupper()]


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_is_positive(name: str) -> None:
    assert getattr(limits, name) > 0


def test_limits_fit_together() -> None:
    assert limits.MAX_TASK_BYTES <= limits.MAX_TASK_BYTES_CEILING
    assert max(limits.MAX_TASK_BYTES_CEILING, limits.MAX_COMMON_DATA_BYTES) < limits.MAX_MESSAGE_BYTES
    assert limits.MAX_CHUNK_BYTES < limits.SUBMIT_WINDOW_BYTES
    assert limits.MAX_CHUNK_TASKS <= limits.CREDIT_TASKS
    assert limits.MAX_MESSAGE_BYTES <= limits.MAX_LINK_BUFFER_BYTES
    assert limits.RECONNECT_GRACE_MS < limits.LEASE_MS
    assert limits.UNFIT_WARNING_MS < 5_000, "a session that fits no node warns within 5 s"

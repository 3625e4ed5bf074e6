"""The short form of `python -m tests.chaos`: 200 faults on a real cluster under load, and nothing is lost or doubled.

`FLAME_CHAOS_SEED=... pytest tests/chaos` breaks other things in another order.
"""

import os

import pytest

from tests.chaos.__main__ import SEED, run

FAULTS = 200
SPAN_S = 60.0
CHOSEN = int(os.environ.get(SEED, "1"))


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_whatever_is_killed_stopped_cut_or_filled() -> None:
    report = run(FAULTS, SPAN_S, CHOSEN)
    assert not report.verdict.violations, f"\n{report}"
    assert sum(report.counts.values()) >= FAULTS
    assert report.verdict.tasks > 1_000, report
    assert report.verdict.calm_ms, report
    assert report.verdict.wild_ms, report

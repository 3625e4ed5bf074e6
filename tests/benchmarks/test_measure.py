"""What the benchmarks compute from what they measure."""

import os

import pytest

from benchmarks.measure import Rate, cpu_seconds, peak_memory_mb, percentile


def rate_of(*marks: tuple[float, int]) -> Rate:
    """A rate with `marks` of (seconds, tasks done so far)."""
    rate = Rate()
    rate._marks = [(0.0, 0), *marks]
    rate.total = marks[-1][1]
    return rate


def test_rates_of_a_steady_run() -> None:
    rate = rate_of(*((second / 4, second * 25) for second in range(1, 41)))
    assert rate.per_second == pytest.approx(100)
    assert rate.each_second() == pytest.approx([100] * 10)
    assert rate.slowest_second() == pytest.approx(100)
    assert rate.drift() == pytest.approx(0, abs=1e-9)


def test_a_pause_shows_in_the_slowest_second() -> None:
    rate = rate_of((1.0, 100), (2.0, 200), (3.0, 200), (4.0, 400))
    assert rate.slowest_second() == pytest.approx(0)
    assert rate.per_second == pytest.approx(100)


def test_a_run_that_becomes_slower_drifts() -> None:
    done, marks = 0, []
    for second in range(1, 12):
        done += 100 - (second - 1)
        marks.append((float(second), done))
    assert rate_of(*marks).drift() == pytest.approx(-9 / 94.5, rel=0.01)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (99.9, 100), (1, 1), (0, 1), (100, 100)])
def test_percentiles_are_nearest_ranks(percent: float, expected: float) -> None:
    assert percentile([float(sample) for sample in range(100, 0, -1)], percent) == expected


def test_cpu_time_and_memory_of_this_process_are_read() -> None:
    before = cpu_seconds([os.getpid()])
    total = 0
    while cpu_seconds([os.getpid()]) <= before:
        total += sum(range(1_000))
    assert peak_memory_mb(os.getpid()) > 1
    assert cpu_seconds([1 << 30]) == pytest.approx(0), "a process that does not exist has used nothing"

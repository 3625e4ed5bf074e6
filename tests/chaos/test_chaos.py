"""The short form of `python -m tests.chaos`: 200 faults on a real cluster under load, and nothing is lost or doubled.

`FLAME_CHAOS_SEED=... pytest tests/chaos` breaks other things in another order.
"""

import pytest

from tests.chaos.__main__ import SEED, main, run, seed_or
from tests.chaos.cluster import LETTERS
from tests.chaos.faults import WILD

FAULTS = 200
SPAN_S = 60.0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_whatever_is_killed_stopped_cut_or_filled() -> None:
    report = run(FAULTS, SPAN_S, seed_or(1))
    assert not report.verdict.violations, f"\n{report}"
    assert sum(report.counts.values()) >= FAULTS
    assert [kind for kind in WILD if not report.counts.get(kind)] == (["fill disk"] if report.skipped else [])
    assert report.verdict.tasks > 1_000, report
    assert all(report.verdict.seen[letter] for letter in LETTERS.values()), report.verdict.seen
    assert report.verdict.calm_ms, report
    assert report.verdict.wild_ms, report


@pytest.mark.parametrize(("text", "seed"), [("", 5), ("7", 7), ("0", 0)])
def test_the_seed_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, seed: int) -> None:
    monkeypatch.setenv(SEED, text)
    assert seed_or(5) == seed


def test_a_seed_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(SEED, "seven")
    monkeypatch.setattr("sys.argv", ["chaos"])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert "FLAME_CHAOS_SEED is 'seven', which is no seed: give a whole number" in capsys.readouterr().err

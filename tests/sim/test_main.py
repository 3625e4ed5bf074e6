"""`python -m flame.sim` prints a trace, fingerprints, or the seeds that fail."""

import pytest

from flame.core.control import invariants
from flame.sim.__main__ import main


def test_one_seed_prints_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--faults", "0", "--steps", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert "1 seeds, 0 failed" in lines[-1]


def test_fingerprints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "5", "--seeds", "2", "--digest", "--faults", "0"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["5", "6"]


def test_a_failure_names_its_seed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: object) -> None:
        raise AssertionError("it is broken")

    monkeypatch.setattr(invariants, "check", broken)
    assert main(["--seed", "7", "--seeds", "1"]) == 1
    output = capsys.readouterr().out
    assert "seed 7 fails" in output
    assert "it is broken" in output

"""`python -m flame.sim` runs a seed or many, tells stories, fingerprints, and what fails."""

from pathlib import Path

import pytest

from flame.core.control import invariants
from flame.sim.__main__ import main

SMALL = ["--nodes", "2", "--sessions", "2", "--tasks", "40", "--faults", "none"]


def test_one_seed_writes_its_trace_and_tells_a_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace"
    output = ""
    for seed in range(1, 21):  # in some worlds it is cancelled before
        assert main([*SMALL, "--seed", str(seed), "--trace", str(trace), "--explain", "1:1"]) == 0
        output = capsys.readouterr().out
        if "runs 1 of session 1" in output:
            break
    assert "runs 1 of session 1" in output
    assert "manager starts" in trace.read_text()
    assert "1 seeds, 0 failed" in output
    assert "per second of it alone" in output


def test_fingerprints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--seed", "5", "--digest"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "5"
    assert len(line.split()[1]) == 64


def test_many_tell_what_never_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--seeds", "2"]) == 0
    output = capsys.readouterr().out
    assert "2 seeds, 0 failed" in output
    assert "never happened: " in output


def test_a_failure_names_its_seed_and_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, state: object) -> None:
        raise AssertionError("it is broken")

    monkeypatch.setattr(invariants.Checker, "check", broken)
    assert main([*SMALL, "--seed", "7", "--seeds", "1", "--failures", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "seed 7 fails" in output
    assert "it is broken" in output
    written = (tmp_path / "sim-7.txt").read_text()
    assert written.startswith("commit ")
    assert "--seed 7 --nodes 1" in written


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--seed", "x"], "'x' is no number of at least 0"),
        (["--tasks", "-5"], "'-5' is no number of at least 1"),
        (["--nodes", "0"], "'0' is no number of at least 1"),
        (["--faults", "cut,nosuch"], "nosuch"),
        (["--explain", "s1"], "'s1' is not like 3 or 3:17"),
        (["--failures", "/nowhere/at/all"], "there is no directory /nowhere/at/all"),
        ([*SMALL, "--trace", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_wrong_arguments_are_told(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err

"""The search for another Python: what counts, in which order, and what is installed for it."""

from pathlib import Path

import pytest

from tests.support import ROOT
from tools import other_python
from tools.other_python import Found, Version

VERSIONS = ((3, 13, 5), (3, 12, 1), (3, 11, 9), (3, 11, 2))
OWN = Found((3, 11, 2), "/venv/python3.11")


def fake(path: Path, answer: str, code: int = 0) -> None:
    """Something that is called as Python is, and answers so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {answer}\nexit {code}\n")
    path.chmod(0o755)


def test_what_is_installed_is_found_newest_first_and_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for major, minor, patch in VERSIONS[1:3]:
        path = one / f"python{major}.{minor}"
        fake(path, f"{major} {minor} {patch} cpython {path}")
    fake(two / "python3.10", f"3 10 1 cpython {two}/python3.10")
    fake(two / "python3.14", f"3 14 0 pypy {two}/python3.14")
    fake(two / "python3.13", "no such version", 127)
    fake(two / "python3.13-config", f"3 13 1 cpython {two}/python3.13-config")
    (two / "python3.12").symlink_to(one / "python3.12")
    found = other_python.installed([two, tmp_path / "three", one])
    assert [each.version for each in found] == [(3, 12, 1), (3, 11, 9)]


@pytest.mark.parametrize(
    ("there", "fetched", "order"),
    [
        (VERSIONS, None, [(3, 13, 5), (3, 12, 1), (3, 11, 9), (3, 11, 2)]),
        (VERSIONS[2:], (3, 13, 7), [(3, 13, 7), (3, 11, 9), (3, 11, 2)]),
        (VERSIONS[2:], None, [(3, 11, 9), (3, 11, 2)]),
        ((), None, []),
    ],
)
def test_another_version_is_preferred_then_a_fetched_one_then_another_patch(
    monkeypatch: pytest.MonkeyPatch, there: tuple[Version, ...], fetched: Version | None, order: list[Version]
) -> None:
    listed = [OWN, *(Found(version, f"/python{version}") for version in there)]
    monkeypatch.setattr(other_python, "installed", lambda folders: listed)
    monkeypatch.setattr(other_python, "fetch", lambda minor: Found(fetched, "ld", "python") if fetched else None)
    candidates = list(other_python._candidates(OWN))
    assert [each.version for each in candidates] == order
    assert OWN.command not in [each.command for each in candidates], "the same interpreter proves nothing"


def test_the_pin_of_the_lock_is_taken_with_its_hashes() -> None:
    pin = "msgspec==2.0 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n"
    assert other_python.locked("msgspec", f"a==1 \\\n    --hash=sha256:0\n{pin}    # via x\nb==3\n") == pin
    assert other_python.locked("msgspec", (ROOT / "requirements/dev.lock").read_text("utf-8")).count("sha256:") > 10
    assert other_python.locked("absent", pin) == ""


def test_a_command_without_the_locked_package_does_not_count(tmp_path: Path) -> None:
    fake(tmp_path / "python", "0.0.1 [1]")
    assert not other_python._works(tmp_path / "python")
    assert not other_python._works(tmp_path / "absent")

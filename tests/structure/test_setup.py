"""Setting up: which Python is taken, and what is said where there is none. Nothing is installed here."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is not set up."""
    for name in ("tools/setup.sh", "requirements/dev.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def setup(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the setup with one candidate for Python."""
    environment = {"PATH": os.environ["PATH"], "PYTHON": python}
    return subprocess.run(
        ["sh", "tools/setup.sh"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_python_that_is_too_old_is_named(checkout: Path) -> None:
    old = program(checkout / "python3", 'case "$*" in *print*) echo 3.9 ;; *) exit 1 ;; esac')
    result = setup(checkout, str(old))
    assert result.returncode == 1
    assert "needs Python 3.11 or newer" in result.stderr
    assert f"{old} is 3.9" in result.stderr


def test_a_missing_python_is_named(checkout: Path) -> None:
    result = setup(checkout, "/nowhere/python3")
    assert result.returncode == 1
    assert "no /nowhere/python3" in result.stderr


def test_a_python_without_venv_says_what_to_install(checkout: Path) -> None:
    bare = program(
        checkout / "python3", 'case "$*" in *ensurepip*) exit 1 ;; *version_info*:2*) echo 3.12 ;; esac; exit 0'
    )
    result = setup(checkout, str(bare))
    assert result.returncode == 1
    assert "apt-get install python3.12-venv" in result.stderr


def test_what_is_up_to_date_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    program(checkout / ".venv/bin/python", "exit 0")
    stamp = 'echo "$(pwd -P) $(cat requirements/dev.lock pyproject.toml tools/setup.sh | cksum)" > .venv/.ready'
    subprocess.run(["sh", "-c", stamp], cwd=checkout, check=True)
    result = setup(checkout, "/nowhere/python3")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_an_environment_from_another_place_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    program(checkout / ".venv/bin/python", "exit 0")
    (checkout / ".venv/.ready").write_text("/somewhere/else 123 456\n", "utf-8")
    setup(checkout, "/nowhere/python3")
    assert not (checkout / ".venv").exists()


def test_the_lock_names_no_index_and_pins_every_package_by_hash() -> None:
    lock = (ROOT / "requirements/dev.lock").read_text("utf-8")
    assert "://" not in lock
    packages = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert packages
    assert all("==" in line and line.endswith("\\") for line in packages)

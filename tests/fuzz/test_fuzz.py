"""Every kept input keeps its promises, within bounds; so does what is near one; and the fuzzer runs."""

import importlib.util
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.model.limits import KIB, MIB
from tests.fuzz.__main__ import LOCK
from tests.fuzz.corpus import CORPUS, corpus
from tests.fuzz.targets import TARGETS
from tests.support import ROOT

MOST_FILES, MOST_BYTES, MOST_FILE_BYTES = 300, 256 * KIB, 8 * KIB
MOST_MEMORY = 48 * MIB
"""The stream of a frame may be 6 MiB long, and is there a few times; nothing else comes near."""
MOST_CPU_S = 5.0
VERSION = ".".join(map(str, sys.version_info[:2]))

names = pytest.mark.parametrize("name", TARGETS)


def run(name: str, data: bytes) -> None:
    """Run a target, and say for which input it failed."""
    try:
        TARGETS[name].run(data)
    except Exception as error:
        error.add_note(f"{name}: bytes.fromhex({data.hex()!r})")
        raise


def nearby(inputs: list[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs that differ from one of these in a few places."""
    edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8)), max_size=4)

    def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for at, removed, put in changes:
            place = at % (len(data) + 1)
            data = data[:place] + put + data[place + removed :]
        return data

    return st.builds(edited, st.sampled_from(inputs), edits)


@names
def test_kept_inputs_keep_their_promises_within_bounds(name: str) -> None:
    for data in [*corpus(name), *TARGETS[name].seeds()]:
        run(name, data)  # also what is imported or made once
        tracemalloc.start()
        began_s = time.thread_time()
        try:
            run(name, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MOST_MEMORY, f"{name}: {peak:,} bytes of memory for {data.hex()}"
        assert time.thread_time() - began_s < MOST_CPU_S, f"{name}: too long for {data.hex()}"


@names
def test_what_is_near_a_kept_input_keeps_its_promises(name: str) -> None:
    @given(nearby([*corpus(name), *TARGETS[name].seeds()]) | st.binary(max_size=200))
    @settings(max_examples=150)
    def check(data: bytes) -> None:
        run(name, data)

    check()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.mutate is not None])
def test_mutations_of_a_target_keep_its_promises(name: str) -> None:
    mutate = TARGETS[name].mutate
    assert mutate is not None
    inputs = [*corpus(name), *TARGETS[name].seeds()]

    @given(st.sampled_from(inputs), st.randoms(use_true_random=False))
    @settings(max_examples=150)
    def check(data: bytes, chance: random.Random) -> None:
        run(name, mutate(data, chance))

    check()


def test_the_corpus_is_small_and_of_targets_that_exist() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(TARGETS)
    assert len(files) <= MOST_FILES
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert max(path.stat().st_size for path in files) <= MOST_FILE_BYTES


def fuzzed(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `make fuzz` runs."""
    command = [sys.executable, "-m", "tests.fuzz", "--folder", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=100)


def installed() -> Path | None:
    """Where `make fuzz` has put the fuzzer, if it was ever run here."""
    return next((ROOT / "build" / "fuzz").glob(f"library-{VERSION}-*"), None)


@names
def test_the_fuzzer_runs(name: str, tmp_path: Path) -> None:
    place = installed()
    if place is None and importlib.util.find_spec("atheris") is None:
        pytest.skip("the fuzzer is not installed: `make fuzz` does that")
    result = fuzzed(tmp_path, "--seconds", "1", name, PYTHONPATH=str(place or ""))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing broken" in result.stdout
    assert int(result.stdout.split(" inputs in ")[0].split()[-1].replace(",", "")) > 10


def test_without_the_fuzzer_it_is_said_plainly(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is not None:
        pytest.skip("the fuzzer is installed for this Python")
    result = fuzzed(tmp_path, "frames", PIP_NO_INDEX="1")
    assert result.returncode == 2
    assert f"atheris, the fuzzer, cannot be installed for Python {VERSION}" in result.stderr
    assert LOCK.read_text("utf-8").splitlines()[0][2:] in result.stderr
    assert not list(tmp_path.glob("library-*"))


def test_a_target_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    result = fuzzed(tmp_path, "farmes")
    assert result.returncode == 2
    assert "there is no target 'farmes': one of frames," in result.stderr


def test_a_kept_input_can_be_replayed(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(next(iter(TARGETS["frames"].seeds())))
    assert fuzzed(tmp_path, "--replay", str(file), "frames").returncode == 0

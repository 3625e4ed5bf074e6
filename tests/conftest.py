"""Fixtures and profiles for all tests."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import WaitUntil, wait_until_true

# A busy machine makes an example slow, not wrong: no deadlines. CI tries the same examples every time, so that a
# submission fails for what it changed; at home each run tries new ones.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# Who starts the tests in the background of a script, or by `nohup`, has Ctrl-C or the end of the terminal ignored, and
# all that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long begins first, and who has to be alone comes last: else one process waits for the other.

    Waiting to be alone does not count as the test's own time.
    """
    for item in items:
        if item.get_closest_marker("alone"):
            own = item.get_closest_marker("timeout")
            seconds = own.args[:1] if own else ()
            kept = own.kwargs if own else {}
            item.add_marker(pytest.mark.timeout(*seconds, **{**kept, "func_only": True}), append=False)
    items.sort(key=lambda item: bool(item.get_closest_marker("alone")) - bool(item.get_closest_marker("long")))


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """An empty directory with a short path, for Unix sockets (their paths have at most 107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def wait_until() -> WaitUntil:
    """`wait_until(condition, timeout_s=30.0)`: returns the condition's first true value, fails after the timeout."""
    return wait_until_true


@pytest.fixture(autouse=True)
def _machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever is marked `alone` measures something: no other test runs meanwhile, in whichever process."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with (folder / "machine.lock").open("w") as lock:
        flock(lock, LOCK_EX if request.node.get_closest_marker("alone") else LOCK_SH)
        try:
            yield
        finally:
            flock(lock, LOCK_UN)  # what a test has forked has the file open too


@pytest.fixture(autouse=True)
def _no_cluster_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds the cluster or the configuration of whoever runs it."""
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("FLAME_", "XDG_"))]:
        monkeypatch.delenv(name)

"""The directory of a store: lock, modes and reserve."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flame.model.errors import ConfigurationError, FailedPrecondition, Internal
from flame.model.limits import MIB
from flame.stores.directory import StoreDirectory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_with_private_modes(tmp_path: Path) -> None:
    directory = StoreDirectory(tmp_path / "a" / "b", MIB)
    directory.acquire()
    directory.private_file("some")
    assert mode(tmp_path / "a" / "b") == 0o700
    assert {path.name: mode(path) for path in (tmp_path / "a" / "b").iterdir()} == {
        "lock": 0o600,
        "reserve": 0o600,
        "some": 0o600,
    }
    directory.release()


def test_the_mode_of_a_directory_that_is_there_stays(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    directory = StoreDirectory(tmp_path, 0)
    directory.acquire()
    assert mode(tmp_path) == 0o755
    directory.release()


def test_the_second_one_is_told_who_has_it(tmp_path: Path) -> None:
    first, second = StoreDirectory(tmp_path, 0), StoreDirectory(tmp_path, 0)
    first.acquire()
    with pytest.raises(FailedPrecondition, match=f"{tmp_path} is in use by process {os.getpid()} "):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from flame.stores.directory import StoreDirectory;"
        " d = StoreDirectory(Path(sys.argv[1]), 0); d.acquire(); print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        directory = StoreDirectory(tmp_path, 0)
        with pytest.raises(FailedPrecondition, match=f"process {process.pid} "):
            directory.acquire()
        process.kill()
        process.wait()
        directory.acquire()
        directory.release()


def test_a_file_in_its_place_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=f"data directory {path} cannot be used"):
            StoreDirectory(path, 0).acquire()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_a_configuration_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        StoreDirectory(tmp_path, 0).acquire()


def test_the_reserve_is_really_allocated_and_can_be_given_back(tmp_path: Path) -> None:
    directory = StoreDirectory(tmp_path, MIB)
    directory.acquire()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= MIB
    assert directory.release_reserve() is True
    assert not (tmp_path / "reserve").exists()
    assert directory.release_reserve() is False
    directory.make_reserve()
    assert directory.release_reserve() is True
    directory.release()


def test_no_reserve_is_made_that_does_not_fit_twice(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    directory = StoreDirectory(tmp_path, disk.f_blocks * disk.f_frsize)
    directory.acquire()
    assert not (tmp_path / "reserve").exists()
    assert directory.free_bytes() == 0, "what the reserve still has to take is no room for work"
    directory.release()


def watched(path: Path, *names: str) -> StoreDirectory:
    """A directory whose files are watched."""
    directory = StoreDirectory(path, 0)
    directory.acquire()
    for name in names:
        directory.private_file(name)
    directory.watch(*names, "none")
    return directory


def test_files_in_their_places_are_fine_whatever_is_written_to_them(tmp_path: Path) -> None:
    directory = watched(tmp_path, "a", "b")
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "none").touch()
    directory.check_files(lambda name: pytest.fail(f"{name} is there"))
    directory.release()


@pytest.mark.parametrize("saved", [False, True])
def test_a_file_that_is_gone_is_told_and_may_be_saved(tmp_path: Path, saved: bool) -> None:
    asked: list[str] = []

    def save(name: str) -> bool:
        asked.append(name)
        return saved

    directory = watched(tmp_path, "a", "b")
    (tmp_path / "b").rename(tmp_path / "c")
    told = "all that it held is saved" if saved else "a new start does not find what it held"
    with pytest.raises(Internal, match=f"{tmp_path}/b was removed or renamed while it was in use.*{told}"):
        directory.check_files(save)
    assert asked == ["b"]
    (tmp_path / "c").rename(tmp_path / "b")
    directory.check_files(save)
    directory.release()


def test_another_file_in_the_place_of_one_is_told(tmp_path: Path) -> None:
    directory = watched(tmp_path, "a")
    (tmp_path / "new").touch()
    (tmp_path / "new").rename(tmp_path / "a")
    with pytest.raises(Internal, match="a was replaced while it was in use"):
        directory.check_files(lambda _: pytest.fail("over another file nothing is saved"))
    directory.release()


def test_a_renamed_directory_is_told_without_a_traceback_of_its_own(tmp_path: Path) -> None:
    directory = watched(tmp_path / "d", "a")
    (tmp_path / "d").rename(tmp_path / "e")
    with pytest.raises(Internal, match="d/a was removed or renamed"):
        directory.check_files(lambda _: False)
    with pytest.raises(Internal, match=r"d cannot be used any more: No such file or directory.*move it back"):
        directory.free_bytes()
    directory.release()

import json
import os
import stat
from pathlib import Path

import pytest

from flame.config import paths, runtime
from flame.supervisor import detached
from flame.supervisor.lock import Lock
from flame.supervisor.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Settings(str(tmp_path / "data"), grpc="127.0.0.1:8080")


def test_runtime_files_are_written_where_clients_look(settings: Settings) -> None:
    detached.write_runtime_files(settings, 17)
    cluster = runtime.read(paths.cluster_file(settings.data_dir))
    assert cluster == runtime.read(paths.pointer_file())
    assert cluster == runtime.Cluster(
        data_dir=settings.data_dir, endpoint=settings.endpoint, grpc="http://127.0.0.1:8080", supervisor=17
    )
    assert stat.S_IMODE(os.stat(paths.pointer_file()).st_mode) == 0o600
    detached.remove_runtime_files(settings.data_dir)
    assert not os.path.exists(paths.pointer_file())
    assert not os.path.exists(paths.cluster_file(settings.data_dir))
    detached.remove_runtime_files(settings.data_dir)


def test_the_pointer_of_another_cluster_stays(settings: Settings, tmp_path: Path) -> None:
    detached.write_runtime_files(settings, 17)
    other = settings._replace(data_dir=str(tmp_path / "other"))
    detached.write_runtime_files(other, 18)
    detached.remove_runtime_files(settings.data_dir)
    assert json.loads(Path(paths.pointer_file()).read_text())["data_dir"] == other.data_dir


def test_a_home_that_cannot_be_written_does_not_stop_the_cluster(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    detached.write_runtime_files(settings, 17)
    assert os.path.exists(paths.cluster_file(settings.data_dir))
    assert "/dev/null/.flame/run/cluster.json: cannot be written" in capfd.readouterr().err


def test_second_supervisor_leaves_the_first_one_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detached, "_LOCK_TIMEOUT_S", 0)
    os.makedirs(f"{settings.data_dir}/run")
    lock = Lock(settings.data_dir)
    lock.acquire(0)
    assert detached.run(settings) == 1
    assert "another supervisor" in capfd.readouterr().err
    assert not os.path.exists(f"{settings.data_dir}/conf")
    lock.release()

from pathlib import Path

import pytest

from flame.config import paths


def test_default_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert paths.default_data_dir() == Path("/h/.local/share/flame")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert paths.default_data_dir() == Path("/data/flame")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # the standard says to ignore it
    assert paths.default_data_dir() == Path("/h/.local/share/flame")


def test_pointer_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert paths.pointer_file() == "/h/.flame/run/cluster.json"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert paths.pointer_file() == f"{tmp_path}/flame/cluster.json"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert paths.pointer_file() == "/h/.flame/run/cluster.json"


def test_files_of_a_data_directory() -> None:
    assert paths.socket_path("/d") == "/d/run/session-manager.sock"
    assert paths.cluster_file("/d") == "/d/run/cluster.json"
    assert paths.log_file("/d", "supervisor") == "/d/log/supervisor.log"
    assert paths.configuration_file("/d", "session-manager") == "/d/conf/session-manager.yaml"

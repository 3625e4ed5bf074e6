import os
from pathlib import Path

import pytest

from flame.config import capacity, paths
from flame.config.components import (
    ExecutorManagerConfig,
    SessionManagerConfig,
    check_executor_manager,
    check_session_manager,
)
from flame.config.files import load
from flame.config.processes import MARKER, component_of
from flame.model.resources import Resources
from flame.supervisor.settings import Settings, command, environment, prepare


def written(settings: Settings) -> tuple[SessionManagerConfig, ExecutorManagerConfig]:
    prepare(settings)
    path = Path(paths.configuration_file(settings.data_dir, "session-manager"))
    session_manager = check_session_manager(load(path, SessionManagerConfig), str(path))
    path = Path(paths.configuration_file(settings.data_dir, "executor-manager"))
    return session_manager, check_executor_manager(load(path, ExecutorManagerConfig), str(path))


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("name", ["plain", 'with "quotes" and \\', "with: colon #and more"])
def test_components_can_read_what_is_written(short_tmp: Path, name: str, embedded: bool) -> None:
    data_dir = str(short_tmp / name)
    settings = Settings(data_dir, executors=1, grpc="127.0.0.1:8080", mode="memory", embedded=embedded)
    session_manager, executor_manager = written(settings)
    assert session_manager.data_dir == executor_manager.data_dir == data_dir
    assert session_manager.mode == "memory"
    assert session_manager.grpc == "127.0.0.1:8080"
    assert session_manager.frames == executor_manager.endpoint == f"unix://{data_dir}/run/session-manager.sock"
    assert executor_manager.executors == 1
    assert executor_manager.cpu == 0


@pytest.mark.parametrize(
    ("executors", "cpus", "memory_bytes", "request_text", "cpu"),
    [
        (0, 4, 64 << 30, "cpu=1,mem=1g", 0),
        (2, 4, 64 << 30, "cpu=1,mem=1g", 0),
        (4, 4, 64 << 30, "cpu=1,mem=1g", 0),
        (8, 2, 2 << 30, "cpu=1,mem=256m", 8),
        (0, 4, 1 << 30, "cpu=1,mem=256m", 0),
        (3, 1, 1 << 30, "cpu=1,mem=341m", 3),
    ],
)
def test_default_request_fits_so_many_times(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executors: int,
    cpus: int,
    memory_bytes: int,
    request_text: str,
    cpu: int,
) -> None:
    monkeypatch.setattr(capacity, "cpus", lambda: cpus)
    monkeypatch.setattr(capacity, "memory_bytes", lambda: memory_bytes)
    session_manager, executor_manager = written(Settings(str(tmp_path), executors=executors))
    assert Resources.parse(session_manager.default_resources) == Resources.parse(request_text)
    assert executor_manager.cpu == cpu  # the machine's own, unless there are more executors
    assert executor_manager.executors == (executors or cpus)


def test_directories_are_private(tmp_path: Path) -> None:
    written(Settings(str(tmp_path / "d")))
    for name in ("", "run", "conf", "log"):
        assert (tmp_path / "d" / name).stat().st_mode & 0o777 == 0o700


def test_command_line_names_component_and_data_directory() -> None:
    line = "\0".join(command(Settings("/d"), "session-manager")).encode()
    assert component_of(line, "/d") == "session-manager"
    assert "--parent" not in command(Settings("/d"), "session-manager")
    assert command(Settings("/d", embedded=True), "session-manager")[-2:] == ["--parent", str(os.getpid())]


def test_import_path_does_not_depend_on_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "src:/a")
    variables = environment(Settings("/d"))
    assert variables["PYTHONPATH"] == f"{Path.cwd()}/src:/a"
    assert variables[MARKER] == "/d"

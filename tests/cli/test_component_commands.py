import subprocess
import sys
from pathlib import Path

import pytest

from flame.cli.component_commands import COMMANDS, UsageError, read_options

ALLOWED = {"config": True, "data-dir": False, "executors": False, "mode": False}


def flame(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flame.cli.flame", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_options_in_both_forms() -> None:
    assert read_options(["--config", "a b", "--data-dir=/d=e"], ALLOWED) == {"config": "a b", "data-dir": "/d=e"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--config is missing"),
        (["--config"], "--config needs a value"),
        (["--config", "a", "--confg", "b"], "'--confg' is not an option"),
        (["a"], "'a' is not an option"),
        (["--config", "a", "--data-dir", ""], "--data-dir is empty"),
        (["--config="], "--config is empty"),
        (["--config", "a", "--executors", "z"], "--executors takes a number, not 'z'"),
        (["--config", "a", "--executors=-1"], "--executors takes a number, not '-1'"),
        (["--config", "a", "--executors", "1" * 10], "--executors takes a number"),
        (["--config", "a", "--executors", "\u0663"], "--executors takes a number"),
        (["--config", "a", "--mode", "fast"], "--mode is durable or memory, not 'fast'"),
    ],
)
def test_wrong_options(arguments: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_options(arguments, ALLOWED)


def test_a_supervisor_told_nonsense_says_so_in_a_line(tmp_path: Path) -> None:
    done = flame("supervisor", "--data-dir", str(tmp_path / "data"), "--executors", "z")
    assert done.returncode == 2
    assert done.stderr == "error: flame supervisor: --executors takes a number, not 'z' (see flame supervisor --help)\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("component", ["session-manager", "executor-manager"])
class TestConfigurationFiles:
    def test_usage(self, component: str) -> None:
        done = flame(component)
        assert done.returncode == 2
        assert done.stderr == f"error: flame {component}: --config is missing (see flame {component} --help)\n"

    def test_no_file(self, component: str, tmp_path: Path) -> None:
        done = flame(component, "--config", str(tmp_path / "x.yaml"))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"error: {tmp_path}/x.yaml: no such file (check the path)\n"

    def test_malformed_file(self, component: str, tmp_path: Path) -> None:
        path = tmp_path / "x.yaml"
        path.write_text("data_dir: [\n")
        done = flame(component, "--config", str(path))
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {path}:2:1: not valid YAML")
        assert "Traceback" not in done.stderr

    def test_unknown_key(self, component: str, tmp_path: Path) -> None:
        path = tmp_path / "x.yaml"
        path.write_text(f"data_dir: {tmp_path}\nendpoint: unix:///s\ndatadir: x\n".replace("endpoint", "frames"))
        if component == "executor-manager":
            path.write_text(f"data_dir: {tmp_path}\nendpoint: unix:///s\ndatadir: x\n")
        done = flame(component, "--config", str(path))
        assert done.returncode == 1
        assert done.stderr == f"error: {path}:3: unknown key 'datadir' (did you mean 'data_dir'?)\n"

    def test_help(self, component: str) -> None:
        done = flame(component, "--help")
        assert done.returncode == 0
        assert "--config FILE" in done.stdout


def test_the_way_to_an_embedded_cluster_imports_next_to_nothing() -> None:
    code = (
        "import sys; from flame.cli import component_commands; from flame.supervisor import embedded\n"
        "heavy = {'click', 'yaml', 'msgspec', 'json', 'asyncio', 'subprocess', 'grpc', 'google', 'socket', 'ctypes'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_supervisor_imports_later_is_light_too() -> None:
    code = (
        "import sys, flame.sandbox.host\n"
        "sys.exit(', '.join({'msgspec', 'asyncio', 'subprocess'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_component_has_a_command() -> None:
    assert set(COMMANDS) == {"session-manager", "executor-manager", "supervisor", "embedded"}

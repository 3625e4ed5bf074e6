import subprocess
import sys

import pytest

from flame.cli.flame import main


def code_of(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_commands_and_what_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(["--help"]) == 0
    commands = capsys.readouterr().out.partition("Commands:")[2]
    for name in ("up", "down", "status", "session-manager", "executor-manager"):
        assert name in commands
    for name in ("supervisor", "embedded"):
        assert name not in commands


@pytest.mark.parametrize("arguments", [["frobnicate"], ["up", "--executors", "0"], ["up", "--port", "70000"]])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert code_of(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert len(shown.splitlines()) == 1


def test_components_load_no_click() -> None:
    code = (
        "import sys\nfrom flame.cli.flame import main\n"
        "try:\n    main(['session-manager', '--config', '/none'])\n"
        "except SystemExit: sys.exit('click' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0

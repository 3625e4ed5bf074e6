import click
import pytest

from flame import __version__
from flame.cli.click_support import run_click, version_option
from flame.model.errors import NotFound


@click.command()
@click.option("--fail", type=click.Choice(["flame", "abort", "code", "click"]))
@version_option("tool")
def tool(fail: str | None) -> int | None:
    """A tool."""
    match fail:
        case "flame":
            raise NotFound("there is none", hint="make one")
        case "abort":
            raise KeyboardInterrupt
        case "click":
            raise click.ClickException("no")
        case "code":
            return 3
    return None


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        ([], 0, ""),
        (["--fail", "code"], 3, ""),
        (["--fail", "flame"], 1, "error: there is none (make one)\n"),
        (["--fail", "click"], 1, "error: no\n"),
        (["--fail", "x"], 2, "(see tool --help)\n"),
        (["--nothing"], 2, "(see tool --help)\n"),
    ],
)
def test_exit_codes_and_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, err: str) -> None:
    assert run_click(tool, "tool", arguments) == code
    shown = capsys.readouterr().err
    assert shown.endswith(err)
    assert len(shown.splitlines()) <= 1


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_click(click.Group("tools", help="Many tools."), "tools", []) == 2
    assert capsys.readouterr().err.startswith("Usage: tools [OPTIONS] COMMAND")


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_click(tool, "tool", ["--fail", "abort"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_click(tool, "tool", ["--version"]) == 0
    assert capsys.readouterr().out == f"tool {__version__}\n"

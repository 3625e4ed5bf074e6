"""Ctrl-C at any moment of a command's start."""

import subprocess
import sys

import pytest

from flame.cli.errors import INTERRUPTED

SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, {handler})
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from flame.cli.entry import {program}
{program}()
"""


def interrupted(program: str, module: str, arguments: list[str], handler: str) -> subprocess.CompletedProcess[str]:
    """Start a command that gets SIGINT when it begins to import a module."""
    script = SCRIPT.format(program=program, module=module, handler=handler)
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("program", "module", "arguments"),
    [
        ("flame", "flame.cli.flame", ["status"]),
        ("flame", "click", ["status"]),
        ("flame", "flame.cli.component_commands", ["supervisor", "--data-dir", "/nowhere"]),
        ("flame", "flame.config.components", ["session-manager", "--config", "/nowhere"]),
        ("flmctl", "click", ["list"]),
        ("flmctl", "flame.sdk.connection", ["list", "--endpoint", "unix:///nowhere"]),
        ("flmping", "flame.cli.ping_report", []),
        ("flmping", "flame.sdk.connection", ["--endpoint", "unix:///nowhere"]),
    ],
)
def test_ctrl_c_during_an_import_ends_a_command_in_silence(program: str, module: str, arguments: list[str]) -> None:
    done = interrupted(program, module, arguments, "signal.default_int_handler")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (INTERRUPTED, "", "")


def test_who_was_started_to_ignore_it_goes_on() -> None:
    done = interrupted("flmctl", "click", ["--version"], "signal.SIG_IGN")
    assert done.returncode == 0
    assert done.stdout.startswith("flmctl ")

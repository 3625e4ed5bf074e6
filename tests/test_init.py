"""`import flame`: every public name, loaded when it is used, and nothing heavy before."""

import importlib
import os
import subprocess
import sys

import pytest

import flame
from tests.support import ROOT


def _python(script: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", flame.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(flame, name) is not None
    assert name in dir(flame)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'jobs'"):
        flame.jobs  # noqa: B018


def test_the_whole_error_tree_is_public() -> None:
    errors = importlib.import_module("flame.model.errors")
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= set(flame.__all__)


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "('asyncio', 'grpc', 'google', 'logging', 'subprocess', 'msgspec', 'threading')"
    script = f"import sys; before = set(sys.modules); import flame; print(set({heavy}) & (set(sys.modules) - before))"
    assert _python(script) == "set()\n"


def test_the_client_over_frames_loads_no_grpc_and_no_event_loop() -> None:
    script = (
        "import sys, flame; flame.connect; import flame.carriers.threads; print({'grpc', 'asyncio'} & set(sys.modules))"
    )
    assert _python(script) == "set()\n"

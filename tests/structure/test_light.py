"""`import flame` is light: a script that only names Flame pays next to nothing."""

import json
import statistics
import subprocess
import sys
from typing import Any

PROGRAM = """
import json, sys, time
started = time.perf_counter()
import {module}
print(json.dumps({{"ms": (time.perf_counter() - started) * 1e3, "modules": sorted(sys.modules)}}))
"""

HEAVY = ("grpc", "google.protobuf", "asyncio", "uvloop", "sqlite3", "click")
SERVER = ("flame.core", "flame.stores", "flame.session_manager", "flame.executor_manager", "flame.supervisor")
CONNECTION = ("flame.sdk", "flame.carriers", "flame.wire", "socket", "threading")


def imported(module: str) -> dict[str, Any]:
    """Import a module in a fresh process: milliseconds and all modules loaded."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def loaded(modules: list[str], names: tuple[str, ...]) -> list[str]:
    """Which of `modules` are one of `names` or inside one."""
    return [module for module in modules if any(module == name or module.startswith(name + ".") for name in names)]


def test_import_flame_loads_nothing_heavy_and_no_server_code() -> None:
    modules = imported("flame")["modules"]
    assert not loaded(modules, HEAVY)
    assert not loaded(modules, SERVER)


def test_the_service_base_loads_no_connection_code() -> None:
    modules = imported("flame.service")["modules"]
    assert not loaded(modules, HEAVY + SERVER + CONNECTION[:3])


def test_import_flame_is_quick() -> None:
    # 100 ms on an idle machine; tests share two cores with others, so the fastest of several counts.
    times_ms = [imported("flame")["ms"] for _ in range(7)]
    assert min(times_ms) < 100, f"median {statistics.median(times_ms):.0f} ms"

"""`flame`, but the components that its supervisor starts read a configuration that is made for chaos.

Run as `python -P up.py flame.chaos COMMAND ...`. The file `chaos.json` in the directory above the data directory says
which keys of which component are other than `flame up` writes them.
"""

import fcntl
import json
import os
import signal
import sys
import threading
from pathlib import Path

from flame.cli import flame
from flame.config import paths
from flame.supervisor import cluster, detached
from flame.supervisor import settings as layout


def _prepare(settings: layout.Settings) -> None:
    """Write the configuration files as always, and then change some keys."""
    layout.prepare(settings)
    directory = Path(settings.data_dir).parent
    threading.Thread(target=_end_with, args=[directory / "alive"], daemon=True).start()
    changes = json.loads((directory / "chaos.json").read_text())
    for component, values in layout.configuration(settings).items():
        path = Path(paths.configuration_file(settings.data_dir, component))
        path.write_text(json.dumps({**values, **changes.get(component, {})}))


def _end_with(path: Path) -> None:
    """Stop the cluster when the process that holds the lock on this file, who breaks the cluster, is gone."""
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    os.kill(os.getpid(), signal.SIGTERM)


def _command() -> list[str]:
    return [sys.executable, "-P", str(Path(__file__).resolve()), "flame.chaos"]


if __name__ == "__main__":
    # Where they are looked up: both modules have these by name.
    vars(detached)["prepare"] = _prepare
    vars(cluster)["flame_command"] = _command
    flame.main(sys.argv[2:])

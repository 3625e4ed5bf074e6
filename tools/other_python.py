"""Make build/other-python/python: another Python 3.11 or newer than the one of .venv, with msgspec, to compare with.

A simulation is to have the same trace on any Python. Looked for, in this order:

1. another version that is installed: on the PATH, or of pyenv or uv;
2. the Python of another release of Debian, fetched from the mirror that this machine's apt uses, checked against
   Debian's keyring, unpacked below build/ and started with a C library of its own, so that nothing of the system is
   changed;
3. another build of the same version.

Fails if there is none. Takes no time when it was done before, for the same .venv; `rm -r build/other-python` makes it
look again.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "other-python"
MADE_FOR = "made-for"
"""The file in it that says with which Python of .venv the search was done."""
LOCK = ROOT / "requirements" / "dev.lock"
OLDEST = (3, 11)
RELEASES = {"trixie": (3, 13), "bookworm": (3, 11)}
"""Releases of Debian, with the Python of each."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_WHO = "import os, sys; print(*sys.version_info[:3], sys.implementation.name, os.path.realpath(sys.executable))"
_TIMEOUT_S = 120

Version = tuple[int, int, int]


class Found:
    """An interpreter that runs here: its version, and the command that starts it."""

    def __init__(self, version: Version, *command: Path | str) -> None:
        self.version = version
        self.command = [str(word) for word in command]

    def __repr__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.command[0]})"


def main() -> int:
    """Make the command; returns the exit code."""
    own = Found(_version(sys.version_info), os.path.realpath(sys.executable))
    python = FOLDER / "python"
    made_for = FOLDER / MADE_FOR
    as_before = made_for.exists() and made_for.read_text("utf-8") == repr(own)
    if as_before and _works(python) and (known := _look(python)):
        print(f"other-python: {python} is {known}, as before")
        return 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for found in _candidates(own):
        if _make(python, found):
            made_for.write_text(repr(own), "utf-8")
            print(f"other-python: {python} starts {found}; .venv has {own}")
            return 0
    print("other-python: there is no other Python 3.11 or newer; install one (its name need only be on the PATH)")
    return 1


def _candidates(own: Found) -> Iterator[Found]:
    others = [found for found in installed(_folders()) if found.command != own.command]
    minor = own.version[:2]
    yield from (found for found in others if found.version[:2] != minor)
    fetched = fetch(minor)
    if fetched is not None:
        yield fetched
    print("other-python: no other version is to be had; another build of the same one will have to do")
    yield from sorted((one for one in others if one.version[:2] == minor), key=lambda one: one.version == own.version)


def _version(info: "sys._version_info | list[int]") -> Version:
    return (info[0], info[1], info[2])


def _look(python: Path) -> Found | None:
    """What a command is, or None if it is no CPython that runs and is new enough."""
    try:
        shown = subprocess.run(
            [python, "-I", "-c", _WHO], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor, patch, implementation, real = shown.split(maxsplit=4)
    version = (int(major), int(minor), int(patch))
    return Found(version, real.strip()) if implementation == "cpython" and version[:2] >= OLDEST else None


def installed(folders: list[Path]) -> list[Found]:
    """The Pythons in these folders that are new enough, the newest first, each once."""
    names = {os.path.realpath(path): path for folder in folders for path in sorted(folder.glob("python3.*"))}
    paths = [path for path in names.values() if re.fullmatch(r"python3\.\d+", path.name)]
    found = {one.command[0]: one for path in paths if (one := _look(path)) is not None}
    return sorted(found.values(), key=lambda one: one.version, reverse=True)


def _folders() -> list[Path]:
    """Where Pythons are: on the PATH, where Debian and administrators put them, and where pyenv and uv do."""
    home = Path.home()
    named = [Path(folder) for folder in os.environ.get("PATH", "").split(":") if folder]
    managed = sorted(home.glob(".pyenv/versions/*/bin")) + sorted(home.glob(".local/share/uv/python/*/bin"))
    return [*named, Path("/usr/local/bin"), Path("/usr/bin"), *managed]


# --- making ----------------------------------------------------------------------------------------------------------


def _make(python: Path, found: Found) -> bool:
    """Write the command that starts an interpreter with the locked msgspec; returns whether it works."""
    packages = FOLDER / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    wanted = FOLDER / "requirements.txt"
    wanted.write_text(locked("msgspec", LOCK.read_text("utf-8")), "utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary=:all:", "--require-hashes", "--implementation=cp", "--target", str(packages)]
    pip += [f"--python-version={found.version[0]}.{found.version[1]}", "-r", str(wanted)]
    if not _run(pip):
        return False
    lines = (
        "#!/bin/sh",
        f"# {found}, with msgspec; made by tools/other_python.py",
        f"PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{shlex.quote(str(packages))}",
        "export PYTHONPATH",
        f'exec {shlex.join(found.command)} "$@"',
    )
    python.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    python.chmod(0o755)
    return _works(python)


def _works(python: Path) -> bool:
    """Whether the command runs, with the msgspec that is locked."""
    pinned = re.search(r"^msgspec==(\S+)", LOCK.read_text("utf-8"), re.MULTILINE)
    program = "import msgspec; print(msgspec.__version__, msgspec.json.decode(msgspec.json.encode([1])))"
    try:
        shown = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return pinned is not None and shown == f"{pinned[1]} [1]\n"


def locked(name: str, lock: str) -> str:
    """The lines of a lock file that pin a package, with their hashes."""
    found = re.search(rf"^{name}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    return found[0] if found else ""


# --- fetching --------------------------------------------------------------------------------------------------------

_APT = """\
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{apt}/sources";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "2";
APT::Update::Error-Mode "any";
"""

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {release}
Components: main
Targets: Packages
Signed-By: {keyring}
"""


def fetch(minor: tuple[int, int]) -> Found | None:
    """The Python of a release of Debian that has another version than `minor`, unpacked; None where that fails."""
    release, version = next((name, version) for name, version in RELEASES.items() if version != minor)
    mirror = _mirror()
    if not mirror or not KEYRING.exists():
        print("other-python: nothing is fetched: this is no Debian, or it has no apt, sources or keyring")
        return None
    began_s = time.monotonic()
    name = "python{}.{}".format(*version)
    root, apt = FOLDER / "root", FOLDER / "apt"
    for folder in ("sources", "state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources" / "debian.sources").write_text(_SOURCES.format(mirror=mirror, release=release, keyring=KEYRING))
    (apt / "apt.conf").write_text(_APT.format(apt=apt))
    # As no package counts as installed, all that these two need is fetched with them, the C library too.
    get = ["apt-get", "-qq", "--yes", "--download-only", "install", f"{name}-minimal", f"lib{name}-stdlib"]
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    if not _run(["apt-get", "-qq", "update"], environment) or not _run(get, environment):
        return None
    packages = sorted((apt / "cache/archives").glob("*.deb"))
    if not all(_run(["dpkg-deb", "-x", str(package), str(root)]) for package in packages):
        return None
    shutil.rmtree(apt)
    found = _unpacked(root, name)
    print(f"other-python: fetched {len(packages)} packages of {release} in {time.monotonic() - began_s:.0f} s")
    return found


def _mirror() -> str:
    """Where this machine gets the packages of its own release from; empty if it is no Debian."""
    system = Path("/etc/os-release")
    text = system.read_text("utf-8") if system.exists() else ""
    own = re.search(r"^VERSION_CODENAME=(\w+)$", text, re.MULTILINE)
    if own is None or not re.search(r"^ID=debian$", text, re.MULTILINE) or shutil.which("apt-get") is None:
        return ""
    ask = ["apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"]
    shown = subprocess.run([*ask, "Identifier: Packages"], capture_output=True, text=True, check=False).stdout
    return next((line.split()[2] for line in shown.splitlines() if line.split()[:2] == [own[1], "main"]), "")


def _unpacked(root: Path, name: str) -> Found | None:
    """The interpreter below `root`, started by the dynamic linker that was unpacked with it."""
    interpreter = root / "usr" / "bin" / name
    linkers = [path for path in sorted(root.glob("**/ld-linux*.so.*")) if path.parent.name.endswith("-gnu")]
    folders = sorted({path.parent for path in root.glob("**/*.so.*") if path.parent.name.endswith("-gnu")})
    if not linkers or not interpreter.exists():
        return None
    path = ":".join(map(str, folders))
    patch = subprocess.run(
        [linkers[0], "--library-path", path, interpreter, "-I", "-c", "import sys; print(*sys.version_info[:3])"],
        capture_output=True,
        text=True,
        check=False,
    )
    numbers = [int(number) for number in patch.stdout.split()]
    return Found(_version(numbers), linkers[0], "--library-path", path, interpreter) if len(numbers) == 3 else None


def _run(command: list[str], environment: dict[str, str] | None = None) -> bool:
    """Run a command; returns whether it succeeded, and says why where it did not."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"other-python: {command[0]}: {error}")
        return False
    if done.returncode:
        print(f"other-python: {' '.join(command[:3])} ... failed:\n{done.stderr[-2000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

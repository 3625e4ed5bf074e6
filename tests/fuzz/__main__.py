"""`python -m tests.fuzz [--seconds S] [--keep] [TARGET ...]`: fuzz targets, one after the other; tell what came of it.

Exit code 1 where an input breaks a promise: it is kept in `build/fuzz/TARGET/`, and `--replay FILE TARGET` runs it
again in plain Python. `--keep` adds what reaches code that nothing in `tests/fuzz/corpus` reached before, as few and as
short inputs as will do. The fuzzer is installed below `build/fuzz` when it is first used; nothing else needs it.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.corpus import CORPUS
from tests.fuzz.targets import TARGETS
from tests.support import ROOT

LOCK = Path(__file__).with_name("fuzzer.lock")
MOST_MIB = 1024
"""Memory of a fuzzer's process, itself included."""
MOST_SECONDS = 5
"""For one input."""
_LAST_WORDS = 20


class NoFuzzer(Exception):
    """The fuzzer is not there and cannot be installed."""


def library(folder: Path) -> Path | None:
    """The folder with the fuzzer, installed below `folder` if need be; None if Python finds it anyway.

    Raises:
        NoFuzzer: there is none for this Python or this machine, or the package index cannot be reached.
    """
    if importlib.util.find_spec("atheris") is not None:
        return None
    version = ".".join(map(str, sys.version_info[:2]))
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    place = folder / f"library-{version}-{lock}"
    if not place.exists():
        sys.stderr.write("fuzz: installing the fuzzer\n")
        fresh = folder / f"{place.name}.{os.getpid()}"
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--require-hashes", "--target", str(fresh), "-r", str(LOCK)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            said = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NoFuzzer(
                f"atheris, the fuzzer, cannot be installed for Python {version} on this machine: {said}\n"
                f"fuzz: {LOCK.read_text('utf-8').splitlines()[0].removeprefix('# ')}"
            )
        try:
            fresh.rename(place)
        except OSError:  # another one at the same time was faster
            shutil.rmtree(fresh)
    return place


def fuzz(name: str, seconds: float, folder: Path, environment: dict[str, str]) -> bool:
    """Fuzz a target for so long, starting from its corpus and its seeds; say in a line what came of it.

    Args:
        folder: where inputs go: `found` are those that reach something new, and what breaks a promise is beside it.
        environment: of the fuzzer's process.

    Returns:
        Whether no promise was broken.
    """
    seeds, found = folder / "seeds", folder / "found"
    shutil.rmtree(seeds, ignore_errors=True)
    for place in (seeds, found):
        place.mkdir(parents=True, exist_ok=True)
    for at, seed in enumerate(TARGETS[name].seeds()):
        (seeds / str(at)).write_bytes(seed)
    before = set(folder.iterdir())
    options = [f"-artifact_prefix={folder}/", f"-rss_limit_mb={MOST_MIB}", f"-timeout={MOST_SECONDS}"]
    options += [f"-max_total_time={max(1, round(seconds))}", "-print_final_stats=1"]
    places = [found, *filter(Path.exists, [CORPUS / name]), seeds]
    began_s = time.monotonic()
    result = _run(name, [*options, *map(str, places)], environment)
    took_s = time.monotonic() - began_s
    runs = int((re.findall(r"number_of_executed_units: (\d+)", result.stderr) or ["0"])[-1])
    reached = (re.findall(r"cov: (\d+)", result.stderr) or ["?"])[-1]
    broken = sorted(path for path in folder.iterdir() if path not in before and not path.name.startswith("slow-"))
    shown = f"{name}: {runs:,} inputs in {took_s:.0f} s, {reached} branches reached"
    sys.stdout.write(f"{shown}, {'nothing broken' if result.returncode == 0 else 'BROKEN'}\n")
    if result.returncode:
        said = [line for text in (result.stderr, result.stdout) for line in text.splitlines()[-_LAST_WORDS:]]
        sys.stdout.write("\n".join(said) + "\n")
    for path in broken:
        sys.stdout.write(f'again: make fuzz FUZZ_ARGS="--replay {path} {name}"\n')
    sys.stdout.flush()
    return result.returncode == 0


def keep(name: str, folder: Path, environment: dict[str, str]) -> None:
    """Make the corpus of a target anew, of it, the seeds and what was found: each reaches a branch more."""
    corpus, fresh = CORPUS / name, folder / "corpus"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    places = [place for place in (corpus, folder / "seeds", folder / "found") if place.exists()]
    result = _run(name, ["-set_cover_merge=1", "-use_counters=0", str(fresh), *map(str, places)], environment)
    if result.returncode:
        raise SystemExit(f"fuzz: {name}: the corpus could not be made smaller:\n{result.stderr[-2000:]}")
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for path in fresh.iterdir():
        data = path.read_bytes()
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    sizes = [path.stat().st_size for path in corpus.iterdir()]
    sys.stdout.write(f"{name}: {len(sizes)} inputs kept, {sum(sizes):,} bytes\n")


def _run(name: str, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.running", name, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--keep", action="store_true", help="keep what reaches something new")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input, in this process")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz", help="where inputs go (build/fuzz)")
    arguments = parser.parse_args()
    names = arguments.targets or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}: one of {', '.join(TARGETS)}")
    if arguments.replay is not None:
        if len(names) != 1:
            parser.error("--replay takes one target")
        TARGETS[names[0]].run(arguments.replay.read_bytes())
        return 0
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        place = library(folder)
    except NoFuzzer as error:
        sys.stderr.write(f"fuzz: {error}\n")
        return 2
    environment = dict(os.environ)
    if place is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(place), environment.get("PYTHONPATH", ""))))
    whole = True
    for name in names:
        well = fuzz(name, arguments.seconds, folder / name, environment)
        if well and arguments.keep:
            keep(name, folder / name, environment)
        whole = whole and well
    return 0 if whole else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""`python -m tests.simulation.mutants.trial FIRST SEEDS [--history]`: simulate until a seed fails; says so as JSON.

It runs in a process of its own, on whichever `flame` stands first on its path.
"""

import argparse
import gc
import resource
import signal
import sys
import traceback
from types import FrameType

import msgspec

from flame.core.control import invariants
from flame.sim.workload import Size
from flame.sim.world import Broken, Stuck, World

SIZE = Size(nodes=4, sessions=6, tasks=600, large=0.2)
"""Small worlds: they meet as many faults as large ones, and take a tenth of the time."""
SEED_SECONDS = 10.0
"""CPU time after which a simulation, which takes one or less, is taken for one that never ends."""
MOST_BYTES = 3 << 30
"""Address space after which it is taken for one as well: a loop that sends grows without bound."""


class Endless(BaseException):
    """A seed takes too much time."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of a trial.

    Args:
        seeds: how many were simulated.
        by: what failed at the last of them: `history`, `invariant`, `stuck`, `error` or `endless`; or nothing.
        text: what it said, on one line.
    """

    seeds: int
    by: str = ""
    text: str = ""


def judge(seed: int, *, history: bool) -> tuple[str, str]:
    """Simulate a seed: by what it fails and what that says, or twice nothing."""
    world = World(seed, SIZE)
    try:
        world.run()
    except Broken as error:
        return "history", str(error).partition("\n")[0]
    except (Endless, MemoryError):
        return "endless", f"no end after {SEED_SECONDS:.0f} s, or in {MOST_BYTES} bytes"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        if history and where.filename.endswith("world.py"):
            # The world looked into the engine before it asked the history.
            return _ask(world)
        text = f"{type(error).__name__} in {where.name}: {str(error).partition(chr(10))[0]}"
        by = "invariant" if where.filename.endswith("invariants.py") else "error"
        return ("stuck" if isinstance(error, Stuck) else by), text
    return "", ""


def _ask(world: World) -> tuple[str, str]:
    """What the history alone says at the end of a world."""
    broken = world.broken()
    return ("history", str(broken[0])) if broken else ("", "")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Endless


def main(arguments: list[str]) -> int:
    """Simulate until a seed fails.

    Returns:
        0; the verdict is printed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int, help="the first seed")
    parser.add_argument("seeds", type=int, help="how many at most")
    parser.add_argument("--history", action="store_true", help="invariants are off, and only the history judges")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGVTALRM, _interrupt)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    if options.history:
        invariants.Checker.check = lambda self, state: None  # type: ignore[method-assign]
        invariants.check_settled = lambda state, now_ms: None
    verdict = Verdict(options.seeds)
    for count in range(1, options.seeds + 1):
        signal.setitimer(signal.ITIMER_VIRTUAL, SEED_SECONDS)
        by, text = judge(options.first + count - 1, history=options.history)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if by == "endless":
            gc.collect()  # its world refers to itself, and has taken all the room there is
        if by == "history" or (by and not options.history):
            verdict = Verdict(count, by, text)
            break
    sys.stdout.write(msgspec.json.encode(verdict).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

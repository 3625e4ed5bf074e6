"""`python -m flame.sim`: run a simulation and print its trace, or many and print the seeds that fail."""

import argparse
import sys
import traceback
from collections import Counter

from flame.sim.world import World


def main(arguments: list[str] | None = None) -> int:
    """Run one seed and print its trace, or `--seeds` of them and print what fails.

    Returns:
        Exit code: 0 if all went well, 1 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m flame.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of them")
    parser.add_argument("--seeds", type=int, default=0, help="run this many seeds and print no trace")
    parser.add_argument("--steps", type=int, default=0, help="print only the last lines of the trace; 0 is all")
    parser.add_argument("--faults", type=int, default=12, help="the most faults of a run")
    parser.add_argument("--digest", action="store_true", help="print a fingerprint of the trace instead")
    options = parser.parse_args(arguments)
    write = sys.stdout.write
    failed = 0
    counts: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + max(1, options.seeds)):
        world = World(seed)
        error = ""
        try:
            world.run(options.faults)
        except Exception:
            failed += 1
            error = traceback.format_exc()
        counts += world.counts + world.session_manager.counts
        if options.digest:
            write(f"{seed} {world.digest()}\n")
        elif not options.seeds:
            write("\n".join(world.trace[-options.steps :]) + "\n")
        if error:
            write(f"seed {seed} fails: {error}\n")
    if not options.digest:
        write(f"{max(1, options.seeds)} seeds, {failed} failed: {dict(sorted(counts.items()))}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

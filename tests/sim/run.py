"""Runs simulations by hand: one seed with its trace, or many.

python tests/sim/run.py --seed=7 --trace            one run, all of what happens
python tests/sim/run.py --seeds=0-199               many, and how long they take
python tests/sim/run.py --seed=1 --size=4096        a large one
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sim.scenario import Scenario  # by the path set above
from sim.world import replay_command


def run(seed: int, size: int | None = None, keep: int = 400) -> str:
    """One run; returns the digest of its trace. Raises AssertionError with the trace and how to see it again."""
    scenario = Scenario(seed, size, keep)
    try:
        scenario.run()
    except Exception as exc:
        tail = "\n".join(list(scenario.world.trace)[-keep:])
        text = f"{tail}\n\nseed {seed}: {type(exc).__name__}: {exc}\nto see it again: {replay_command(seed, size)}"
        raise AssertionError(text) from exc
    return scenario.world.digest.hexdigest()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", metavar="FIRST-LAST")
    parser.add_argument("--size", type=int)
    parser.add_argument("--trace", action="store_true")
    args = parser.parse_args()
    seeds = [args.seed]
    if args.seeds:
        first, last = map(int, args.seeds.split("-"))
        seeds = list(range(first, last + 1))
    bad = 0
    for seed in seeds:
        begun = time.process_time()
        scenario = Scenario(seed, args.size, 10_000_000 if args.trace else 400)
        world = scenario.world
        error = ""
        try:
            scenario.run()
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is a result
            error = f"{type(exc).__name__}: {exc}"
            bad += 1
            if len(seeds) == 1 and not args.trace:
                print("\n".join(world.trace))
        if args.trace:
            print("\n".join(world.trace))
        took = time.process_time() - begun
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        what = f"{world.size:5} ranks {world.topology.uri:10} {world.steps:8} steps {took:6.2f} s {memory} MB"
        print(f"seed {seed:4} {what} {world.digest.hexdigest()[:12]} {error}", flush=True)
        if seed % 10 == 0:
            gc.collect()  # runs leave a lot behind
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

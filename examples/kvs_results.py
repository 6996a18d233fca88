"""A program that leaves its results in the KVS: run it with `flux start python examples/kvs_results.py`.

All keys of a step are put in one transaction: who looks sees all of them or none, never half of a step. The last commit
has FLUX_KVS_SYNC: when it returns, the results would survive a crash of the instance.

`kvs_follow.py` is the other program: it follows this one while it works.
"""

from __future__ import annotations

import flux
import flux.kvs
from flux.constants import FLUX_KVS_SYNC

STEPS = 3


def main() -> None:
    handle = flux.Flux()
    for step in range(1, STEPS + 1):
        txn = flux.kvs.KVSTxn(handle, "experiment")
        txn.put(f"step{step}.input", step)
        txn.put(f"step{step}.result", step * step)
        txn.put("progress", {"done": step, "of": STEPS})
        txn.commit(FLUX_KVS_SYNC if step == STEPS else 0)
    results = flux.kvs.get_dir(handle, "experiment")
    print(f"left {len(list(results.directories()))} results: {results['step3']['result']} is the last")


if __name__ == "__main__":
    main()

"""A program that follows another one by what that leaves in the KVS.

Run it with `flux start python examples/kvs_follow.py`.

It waits for a key that is not there yet, and gets each value that is committed to it. When it is told that a step is
done, the step's result is there: both were in one transaction.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import flux
import flux.kvs

OTHER = Path(__file__).with_name("kvs_results.py")


def main() -> None:
    handle = flux.Flux()
    progress = flux.kvs.kvs_watch_async(handle, "experiment.progress", waitcreate=True)
    other = subprocess.Popen([sys.executable, str(OTHER)], stdout=subprocess.PIPE, text=True)
    seen = 0
    while (value := progress.get()) is not None:
        # Commits that come together are one, so that a value may be skipped: no step is.
        for step in range(seen + 1, value["done"] + 1):
            result = flux.kvs.get(handle, f"experiment.step{step}.result")
            print(f"step {step} of {value['of']}: {result}", flush=True)
        seen = value["done"]
        if seen == value["of"]:
            progress.cancel()
    said, _ = other.communicate()
    print(f"the other program: {said}", end="")


if __name__ == "__main__":
    main()

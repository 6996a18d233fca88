"""Processes on all ranks: run it with `flux start --test-size=4 python examples/exec_everywhere.py`.

The same command runs on every rank at once, and each is given its own input. Then one goes to the background on the
last rank, is found by its label, and waited for.
"""

from __future__ import annotations

import asyncio

import flux.aio


async def main() -> None:
    async with flux.aio.connect() as h:
        size = await h.get_size()
        runs = (
            h.subprocess.run(["tr", "a-z", "A-Z"], rank=rank, input=f"hello from {rank}".encode())
            for rank in range(size)
        )
        for rank, done in enumerate(await asyncio.gather(*runs)):
            print(f"{rank}: {done.stdout.decode()}")

        last = size - 1
        await h.subprocess.background(["sh", "-c", "echo ready; exit 3"], rank=last, label="job", waitable=True)
        done = await h.subprocess.wait(label="job", rank=last)
        print(f"rank {last} said {done.stdout!r} and left with {done.returncode}")

        async with await h.subprocess.start(["cat"], rank=last) as process:
            await process.write(b"are you there?\n")
            print("echoed:", await anext(process))


if __name__ == "__main__":
    asyncio.run(main())

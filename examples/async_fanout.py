"""Many calls at once under asyncio: run it with `flux start python examples/async_fanout.py`.

One connection serves a service, `fanout`, whose handler is a coroutine; another one calls it a hundred times at
once. Each call takes 0.1 seconds at the service, and all of them wait at the same time, so together they take little
more. A call that takes too long is given up with `asyncio.timeout`, and the handle is as good as before.
"""

from __future__ import annotations

import asyncio
from typing import Any

import flux.aio
from flux.message import Message

CALLS = 100


class Fanout:
    """The service, and how many of its calls were under way at the same time."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0

    async def square(self, request: Message) -> dict[str, Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(request.payload["seconds"])
        finally:
            self.running -= 1
        number = request.payload["number"]
        return {"number": number, "square": number * number}


async def main() -> None:
    fanout = Fanout()
    async with flux.aio.connect() as server, flux.aio.connect() as client, server.service("fanout") as service:
        service.method("square", fanout.square)
        calls = (client.rpc("fanout.square", {"number": number, "seconds": 0.1}) for number in range(CALLS))
        answers = await asyncio.gather(*calls)
        print(f"{len(answers)} answers, the last is {answers[-1]}")
        print(f"{fanout.most} calls were under way at the same time")
        try:
            async with asyncio.timeout(0.05):
                await client.rpc("fanout.square", {"number": 1, "seconds": 60})
        except TimeoutError:
            print("given up: a call that would have taken a minute")
        print("and one more:", await client.rpc("fanout.square", {"number": 12, "seconds": 0}))


if __name__ == "__main__":
    asyncio.run(main())

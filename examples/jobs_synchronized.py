"""Two jobs that synchronize by events: run it with `flux start python examples/jobs_synchronized.py`.

A consumer must not begin before its producer says so, and then both run at the same time. The producer publishes an
event when it is ready; the consumer has subscribed before. This program starts the producer only when the consumer
has told that it listens, which it does by an event, too.
"""

from __future__ import annotations

import asyncio
import sys

import flux.aio
from flux.job import JobspecV1

PRODUCER = """
import flux
with flux.Flux() as h:
    for part in ("a", "b", "c"):
        h.event_send("pipe.part", {"part": part})
    h.event_send("pipe.done")
"""

CONSUMER = """
import flux
with flux.Flux() as h:
    h.event_subscribe("pipe.")
    h.event_send("consumer.ready")
    while (event := h.event_recv()).topic != "pipe.done":
        print("consumed", event.payload["part"])
"""


async def main() -> None:
    async with flux.aio.connect() as h, h.subscribe("consumer.") as ready:
        consumer = await h.job.submit(JobspecV1.from_command([sys.executable, "-c", CONSUMER], name="consumer"))
        async for event in ready:
            print(event.topic)
            break
        producer = await h.job.run(JobspecV1.from_command([sys.executable, "-c", PRODUCER], name="producer"))
        print("producer", producer.result)
        print((await h.job.output(consumer)).stdout, end="")
        print("consumer", (await h.job.result(consumer)).result)


if __name__ == "__main__":
    asyncio.run(main())

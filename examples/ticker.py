"""Events with timers: run it with `flux start python examples/ticker.py`.

A repeating timer publishes `ticker.tick`. The same handle subscribes to it, as any other process of the instance
could, and everything happens on one reactor: there is no thread and nothing polls. After three ticks the watchers
stop, nothing is left to wait for, and `reactor_run` returns.
"""

from __future__ import annotations

import flux
from flux.constants import FLUX_MSGTYPE_EVENT
from flux.core.watchers import TimerWatcher
from flux.message import Message, MessageWatcher

TICKS = 3


def main() -> None:
    h = flux.Flux()
    published = 0

    def publish(handle: flux.Flux, timer: TimerWatcher, revents: int, args: object) -> None:
        nonlocal published
        published += 1
        handle.event_send("ticker.tick", {"number": published})
        if published == TICKS:
            timer.stop()

    def received(handle: flux.Flux, watcher: MessageWatcher, event: Message, args: object) -> None:
        print(event.topic, event.payload)
        if event.payload["number"] == TICKS:
            watcher.stop()

    h.event_subscribe("ticker.")
    h.msg_watcher_create(received, FLUX_MSGTYPE_EVENT, "ticker.tick").start()
    h.timer_watcher_create(0.05, publish, repeat=0.05).start()
    left = h.reactor_run()
    print(f"the reactor ended with {left} watchers left")


if __name__ == "__main__":
    main()

"""A service and its client, two processes: run it with `flux start python examples/echo_service.py`.

The first process registers the service `echo` and starts the second, which calls it. `echo.say` answers with what
it is sent; `echo.count` streams numbers, one response each, and ends the stream with ENODATA; a bad request is
answered with an error, which the client sees as an OSError with that errno and text.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import Any

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.message import Message


def say(h: flux.Flux, watcher: object, request: Message, args: object) -> None:
    h.respond(request, request.payload)


def count(h: flux.Flux, watcher: object, request: Message, args: object) -> None:
    limit = request.payload.get("to")
    if not isinstance(limit, int):
        h.respond_error(request, errno.EINVAL, "echo.count needs an integer: to")
        return
    for number in range(1, limit + 1):
        h.respond(request, {"number": number})
    h.respond_error(request, errno.ENODATA)


def serve() -> int:
    h = flux.Flux()
    methods = {"echo.say": say, "echo.count": count, "echo.stop": lambda h, *args: h.reactor_stop()}
    for topic, method in methods.items():
        h.msg_watcher_create(method, FLUX_MSGTYPE_REQUEST, topic).start()
    h.service_register("echo").get()
    with subprocess.Popen([sys.executable, __file__, "client"]) as client:
        h.reactor_run()
    return client.returncode


def numbers(h: flux.Flux, request: dict[str, Any]) -> list[int]:
    """What `echo.count` streams."""
    stream = h.rpc("echo.count", request, flags=FLUX_RPC_STREAMING)
    found = []
    while True:
        try:
            found.append(stream.get()["number"])
        except OSError as exc:
            if exc.errno == errno.ENODATA:
                return found
            raise
        stream.reset()


def client() -> int:
    h = flux.Flux()
    print("said:", h.rpc("echo.say", {"text": "hello"}).get())
    print("counted:", numbers(h, {"to": 5}))
    try:
        numbers(h, {"to": "five"})
    except OSError as exc:
        print("refused:", exc.strerror)
    h.rpc("echo.stop", flags=FLUX_RPC_NORESPONSE)
    return 0


if __name__ == "__main__":
    sys.exit(client() if sys.argv[1:] == ["client"] else serve())

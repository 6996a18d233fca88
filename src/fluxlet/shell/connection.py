"""The shell's connection to its broker: requests with callbacks, the shortest way (as `Service.ask`)."""

from __future__ import annotations

from collections.abc import Callable

from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message
from flux.reactor import Reactor


class Connection:
    """Requests to the broker and answers to those that come from there."""

    def __init__(self, handle: Flux) -> None:
        self.handle = handle
        self.reactor: Reactor = handle.reactor
        self._core = handle.core
        self._asked: set[RpcState] = set()

    def ask(
        self, topic: bytes, raw: bytes | None, then: Callable[[RpcState], None], nodeid: int = FLUX_NODEID_ANY
    ) -> None:
        """Sends a request and calls `then` with its outcome, from the loop."""
        state = self._core.rpc(topic, raw, nodeid, 0)
        self._asked.add(state)

        def answered() -> None:
            self._asked.discard(state)
            state.hooks = None
            then(state)

        state.add_hook(answered)

    def stream(self, topic: bytes, raw: bytes | None, then: Callable[[RpcState], None]) -> RpcState:
        """Sends a streaming request and calls `then` for every response, the one with an error is the last."""
        state = self._core.rpc(topic, raw, FLUX_NODEID_ANY, FLUX_RPC_STREAMING)
        self._asked.add(state)

        def answered() -> None:
            then(state)
            if state.errnum:
                self._asked.discard(state)
                state.hooks = None
            else:
                state.reset()

        state.add_hook(answered)
        return state

    def forget(self) -> None:
        """Nobody is called any more, whatever comes or does not."""
        for state in self._asked:
            state.hooks = None
        self._asked.clear()

    def tell(self, topic: bytes, raw: bytes | None, nodeid: int = FLUX_NODEID_ANY) -> None:
        """Sends a request that gets no answer."""
        self._core.rpc(topic, raw, nodeid, FLUX_RPC_NORESPONSE)

    def answer(self, request: Message, raw: bytes | None = None) -> None:
        """Answers a request."""
        self._core.send(request.response(raw))

    def refuse(self, request: Message, errnum: int, text: str = "") -> None:
        """Answers a request with an error."""
        self._core.send(request.response(text.encode() + b"\0" if text else None, errnum))

"""RPC: a request on its way, and the future of its response (spec 02, section 8; spec 01, 3.5)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE
from flux.core.arguments import c_int, int32u, is_null
from flux.core.codec import dump_payload, load_text
from flux.core.flux_t import FluxT
from flux.core.future_state import RpcState
from flux.future import Future
from flux.util import encode_topic
from flux.wrapper import InvalidArguments, local_error

if TYPE_CHECKING:
    from flux.core.futurepimpl import FuturePimpl
    from flux.core.handle import Flux


class RPC(Future):
    """A request, sent at once, and the future of its response.

    Args:
        flux_handle: a Flux, or an opaque handle.
        topic: ``service.method``, str or bytes.
        payload: JSON-serializable value; text and bytes are sent as they are; None for none.
        nodeid: rank to send to, FLUX_NODEID_ANY or FLUX_NODEID_UPSTREAM.
        flags: FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING.

    Raises OSError EINVAL for no handle or other flags, EPIPE without a connection; TypeError for what JSON does
    not have.
    """

    def __init__(
        self,
        flux_handle: Flux | FluxT,
        topic: str | bytes,
        payload: Any = None,
        nodeid: int = FLUX_NODEID_ANY,
        flags: int = 0,
    ) -> None:
        self.flux_handle = flux_handle
        try:
            ctx: FluxT = flux_handle._core  # type: ignore[union-attr]
        except AttributeError:
            ctx = _opaque(flux_handle)
        name = topic.encode("utf-8", "surrogateescape") if type(topic) is str else encode_topic(topic)
        if nodeid != FLUX_NODEID_ANY:
            int32u("flux_rpc", nodeid)
        if flags:
            c_int("flux_rpc", flags)
        self._state = ctx.rpc(name, dump_payload(payload), nodeid, flags)

    @property
    def pimpl(self) -> FuturePimpl:
        """The C functions `flux_rpc_*` and `flux_future_*` with this RPC implied (spec 02, 9.3)."""
        from flux.core.futurepimpl import RpcPimpl

        return RpcPimpl(self)

    def get(self) -> Any:
        """Waits; the response's decoded JSON payload, None if it has none.

        Raises OSError of an error response, ValueError if the payload is not JSON, OSError(EPROTO) if it is not
        text, OSError(EINVAL) for an RPC that gets no response.
        """
        state = self._state
        if not state.ready:
            self._wait()
        # A response with text, as they nearly always are; `_text` sorts out what else there is.
        if not state.errnum and state.value is not None:
            raw: bytes | None = state.value.raw
            if raw and raw.find(b"\0") == len(raw) - 1:
                return load_text(raw[:-1])
        text = self._text()
        return None if text is None else load_text(text)

    def get_str(self) -> str | None:
        """As `get`, but the payload's text as it is."""
        text = self._text()
        return None if text is None else text.decode("utf-8", "surrogateescape")

    def _wait(self) -> None:
        state = self._state
        try:
            state.ctx.wait(state, -1.0)
        except OSError:
            self.raise_if_handle_exception()
            raise

    def _text(self) -> bytes | None:
        state = self._state
        if not state.ready:
            self._wait()
        if state.errnum:
            self.raise_if_handle_exception()
            state.raise_error()
        message = state.value
        if message is None:
            raise local_error(errno.EINVAL)  # sent with FLUX_RPC_NORESPONSE
        raw: bytes | None = message.raw
        if raw is None:
            return None
        if raw.find(b"\0") == len(raw) - 1 and raw:
            return raw[:-1]
        return message.text_bytes()  # type: ignore[no-any-return]

    def cancel(self, topic: str | None = None) -> None:
        """Asks the service to end this streaming RPC, which then ends with ENODATA (spec 01, 3.8).

        Args:
            topic: the service's cancel method; None for the one its method has by convention
                (``SERVICE.METHOD-cancel``, or ``SERVICE.cancel`` where the reference has that).

        A plain RPC, or one that has ended, is left alone: there is nothing at the service to cancel.
        """
        state: RpcState = self._state
        if state.streaming and not state.done:
            name = cancel_topic(state.topic.decode("utf-8", "surrogateescape")) if topic is None else topic
            request = dump_payload({"matchtag": state.matchtag})
            state.ctx.rpc(encode_topic(name), request, state.nodeid, FLUX_RPC_NORESPONSE)


#: Streaming methods whose cancel method is not called METHOD-cancel (spec 01, 3.8).
_CANCEL_TOPICS = {"kvs-watch.lookup": "kvs-watch.cancel", "log.dmesg": "log.cancel"}


def cancel_topic(topic: str) -> str:
    """The cancel method of a streaming method."""
    return _CANCEL_TOPICS.get(topic) or f"{topic}-cancel"


def _opaque(handle: Any) -> FluxT:
    if isinstance(handle, FluxT):
        return handle
    if is_null(handle):
        raise local_error(errno.EINVAL)
    raise InvalidArguments("flux_rpc", "flux_future_t *flux_rpc(flux_t *, ...)", (handle,))

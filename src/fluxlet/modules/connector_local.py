"""The module `connector-local`: who is connected to the socket, and the rules of who may (spec 01, 7.2 and 7.7).

What may wait for a client that does not read is set in the table `[connector-local]`: `fluxlet.broker.local_server`.
"""

from __future__ import annotations

import errno
from typing import Any

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_ROLE_ALL, FLUX_ROLE_NONE
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.access import Access
from fluxlet.broker.broker import Broker
from fluxlet.broker.local_server import Connection, Limits
from fluxlet.payload import read_object
from fluxlet.service import Service

#: Debug flag, for tests of clients: the next connection is refused, whoever it is.
_REFUSE_NEXT = 1


class ConnectorLocal(Service):
    """Tells of the broker's clients."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        # Unlike other modules this one says nothing of the methods it does not have (spec 03, 12.1).
        rest = handle.msg_watcher_create(
            self._callback(self._unknown), FLUX_MSGTYPE_REQUEST, "connector-local*", rolemask=FLUX_ROLE_ALL
        )
        rest.start()
        super().__init__(handle, broker)
        broker.server.authorize = self._authorize

    def stop_service(self) -> None:
        """The rules stay in force."""
        self.broker.server.authorize = self.broker.authorize

    def _authorize(self, uid: int) -> int:
        if self.debug_test(_REFUSE_NEXT, clear=True):
            return FLUX_ROLE_NONE
        return self.broker.authorize(uid)

    def _unknown(self, msg: Message) -> None:
        raise OSError(errno.ENOSYS, None)

    @request_handler("stats-get")
    def stats_get(self, msg: Message) -> None:
        """Answers the clients, and how many there have been. txcount is what a client has sent."""
        clients = self.broker.clients
        shown = [_describe(client) for client in clients.all.values() if isinstance(client, Connection)]
        access = self.broker.access
        self.handle.respond(
            msg,
            {
                "server": {"clients": shown, "connects": clients.total},
                "allow_guest_user": access.allow_guest_user,
                "allow_root_owner": access.allow_root_owner,
            },
        )

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration. Its table `[access]` is for the connections to come, `[connector-local]` for
        all."""
        config = read_object(msg)
        try:
            access, limits = Access.parse(config), Limits.parse(config)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        self.broker.access = access
        self.broker.server.limits.queue = limits.queue
        self.handle.respond(msg)


def _describe(client: Connection) -> dict[str, Any]:
    return {
        "uuid": client.uuid.decode(),
        "userid": client.userid,
        "pid": client.pid,
        "txcount": client.received,
        "rxcount": client.sent,
        "rxbacklog": len(client.out),
    }

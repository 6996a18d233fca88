"""Options of the sockets between brokers (spec 04, 1.2)."""

from __future__ import annotations


class Settings:
    """Options of the sockets.

    Args:
        io_threads: of ZeroMQ.
        child_rcvhwm: messages that a child may have waiting to be read; 0: any number.
        tcp_user_timeout: how long sent data may stay without acknowledgement, in seconds; 0: as the system has it.
        connect_timeout: how long one attempt to connect may take, in seconds; 0: as the system has it.
        ipv6: use it where there is.
        waiting: messages that may wait for one child: one that takes none is lost, in the end, not our memory.
    """

    def __init__(
        self,
        io_threads: int = 1,
        child_rcvhwm: int = 0,
        tcp_user_timeout: float = 20.0,
        connect_timeout: float = 30.0,
        ipv6: bool = False,
        waiting: int = 1 << 17,
    ) -> None:
        self.io_threads = io_threads
        self.child_rcvhwm = child_rcvhwm
        self.tcp_user_timeout = tcp_user_timeout
        self.connect_timeout = connect_timeout
        self.ipv6 = ipv6
        self.waiting = waiting

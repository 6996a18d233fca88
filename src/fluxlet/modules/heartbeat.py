"""The module `heartbeat`: the event `heartbeat.pulse`, and what its absence means (spec 03, 13.6; spec 04, 3.7).

Rank 0 publishes the pulse. The others miss it: after some periods they say so, and after the timeout they give
their parent up.
"""

from __future__ import annotations

import errno
import math
from syslog import LOG_ERR, LOG_WARNING
from time import monotonic
from typing import Any

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE
from flux.core.coroutine import spawn
from flux.core.handle import Flux
from flux.message import Message
from flux.util.durations import parse_fsd, six_digits
from fluxlet.broker.broker import Broker
from fluxlet.config_table import read_table
from fluxlet.payload import read_object
from fluxlet.service import Service


class Settings:
    """The table `[heartbeat]`: seconds, and a number of periods. Raises ValueError with the text for the user."""

    def __init__(self, config: dict[str, Any]) -> None:
        try:
            types = {"period": str, "timeout": str, "warn_thresh": int}
            table = read_table(config.get("heartbeat", {}), types, strict=True)
        except ValueError as exc:
            raise ValueError(f"error reading [heartbeat] config table: {exc}") from None
        self.period = _duration(table, "period", "2s")
        self.timeout = _duration(table, "timeout", "5m")
        self.warn_thresh: int = table.get("warn_thresh", 3)
        self.check()

    def check(self) -> None:
        """Raises ValueError for values that contradict each other."""
        if not 0 < self.period < math.inf:
            raise ValueError("heartbeat.period must be greater than zero, and finite")
        if self.timeout and self.timeout < 2 * self.period:
            raise ValueError("heartbeat.timeout must be at least twice heartbeat.period, or 0 for none")
        if self.warn_thresh <= 0:
            raise ValueError("heartbeat.warn_thresh must be greater than zero")


def _duration(table: dict[str, Any], key: str, default: str) -> float:
    try:
        return parse_fsd(table.get(key, default))
    except ValueError:
        raise ValueError(f"error parsing heartbeat.{key} FSD value") from None


class Heartbeat(Service):
    """Beats, on rank 0; listens, elsewhere.

    Args:
        args: `period=FSD` sets the period, over the configuration.

    Raises OSError(EINVAL) for other arguments, and for a configuration that will not do.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.argument: float | None = None
        for arg in args:
            key, _, value = arg.partition("=")
            if key != "period":
                raise OSError(errno.EINVAL, None)
            try:
                self.argument = parse_fsd(value)
            except ValueError:
                raise OSError(errno.EINVAL, f"period: '{value}' is no duration") from None
        self.count = 0
        self.last = monotonic()
        self.overdue = False
        self.lost = False
        super().__init__(handle, broker, *args)
        self.settings = self._settings(broker.config)
        self.timer = broker.reactor.timer(0.0, self.settings.period, self._due)
        self.timer.start()

    def _settings(self, config: dict[str, Any]) -> Settings:
        try:
            settings = Settings(config)
            if self.argument is not None:
                settings.period = self.argument
                settings.check()
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        return settings

    def stop_service(self) -> None:
        """The heart stops."""
        self.timer.stop()

    def _due(self) -> None:
        if self.broker.rank == 0:
            spawn(self.handle, self._beat())
        else:
            self._listen()

    async def _beat(self) -> None:
        try:
            await self.publish("heartbeat.pulse")
        except OSError as exc:
            self.broker.log.write(LOG_ERR, f"error publishing heartbeat.pulse: {exc.strerror}", "heartbeat")

    @event_handler("heartbeat.pulse", prefix=False)
    def pulse(self, msg: Message) -> None:
        """Another heartbeat."""
        self.count += 1
        self.last = monotonic()
        if self.overdue:
            self.overdue = False
            self.broker.log.write(LOG_WARNING, "heartbeat received", "heartbeat")

    def _listen(self) -> None:
        """A period of another rank is over."""
        settings = self.settings
        silence = monotonic() - self.last
        if silence > settings.warn_thresh * settings.period and not self.overdue:
            self.overdue = True
            self.broker.log.write(LOG_WARNING, "heartbeat overdue", "heartbeat")
        if settings.timeout and silence > settings.timeout and not self.lost:
            self.lost = True
            reason = {"reason": f"no heartbeat for {six_digits(settings.timeout)}"}
            self.handle.rpc("overlay.disconnect-parent", reason, FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE)

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration. Another period takes effect at once."""
        settings = self._settings(read_object(msg))
        if settings.period != self.settings.period:
            self.timer.reset(settings.period, settings.period)
        self.settings = settings
        self.handle.respond(msg)

    @request_handler("stats-get")
    def stats_get(self, msg: Message) -> None:
        """Answers `{"period": s, "timeout": s, "count": pulses seen, "warn_thresh": i}`; timeout 0: none."""
        settings = self.settings
        timeout = settings.timeout if math.isfinite(settings.timeout) else 0.0
        stats = {"period": settings.period, "timeout": timeout, "count": self.count}
        self.handle.respond(msg, {**stats, "warn_thresh": settings.warn_thresh})

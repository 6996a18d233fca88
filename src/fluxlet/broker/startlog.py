"""The log of an instance's starts and ends, in the KVS: `admin.eventlog` (spec 03, 7.2; spec 05, 11.2 and 11.3).

rc1 appends `start`, and has it written to disk, so that every instance has a checkpoint; rc3 appends `finish`. A start
without a finish before it is worth a message: what came after the last checkpoint is lost.
"""

from __future__ import annotations

import errno
import json
import time
from binascii import a2b_base64, b2a_base64
from syslog import LOG_ERR
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_SYNC
from flux.version import CORE_VERSION

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from fluxlet.broker.broker import Broker

KEY = "admin.eventlog"
_VERSION = 1


async def log_start(handle: Flux, broker: Broker) -> None:
    """Task of rc1. Raises OSError."""
    if broker.rank or "kvs" not in broker.modules:
        return
    if _unfinished(await _read(handle)):
        text = "Flux was not shut down properly.  Data may have been lost."
        broker.log.write(LOG_ERR, text)
    context = {"version": _VERSION, "core_version": CORE_VERSION}
    try:
        await _append(handle, "start", context, FLUX_KVS_SYNC)
    except OSError as exc:
        if exc.errno != errno.ENOSYS:
            raise
        await _append(handle, "start", context, 0)  # there is no disk to write to


async def log_finish(handle: Flux, broker: Broker) -> None:
    """Task of rc3. Raises OSError."""
    attributes = broker.attributes.visible
    stays = attributes.get("statedir-cleanup") != "1" or "content.dump" in attributes
    if not broker.rank and "kvs" in broker.modules and stays:
        await _append(handle, "finish", {"version": _VERSION}, 0)


async def _append(handle: Flux, name: str, context: dict[str, Any], flags: int) -> None:
    event = json.dumps({"timestamp": time.time(), "name": name, "context": context}, separators=(",", ":")) + "\n"
    dirent = {"ver": 1, "type": "val", "data": b2a_base64(event.encode(), newline=False).decode()}
    operation = {"key": KEY, "flags": FLUX_KVS_APPEND, "dirent": dirent}
    await handle.rpc("kvs.commit", {"namespace": "primary", "flags": flags, "ops": [operation]})


async def _read(handle: Flux) -> bytes:
    """The log so far."""
    try:
        answer = await handle.rpc("kvs.lookup", {"namespace": "primary", "key": KEY, "flags": 0})
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            return b""
        raise
    return a2b_base64(answer["val"]["data"])


def _unfinished(log: bytes) -> bool:
    """True if the last start has no finish."""
    unfinished = False
    for line in log.splitlines():
        try:
            name = json.loads(line)["name"]
        except (ValueError, KeyError, TypeError):
            continue  # somebody has written something else there
        unfinished = name == "start" or (unfinished and name != "finish")
    return unfinished

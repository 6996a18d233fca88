"""flux resource drain, undrain, reload and acquire-mute."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from flux.cli.commands.resource import LOGGER
from flux.core.handle import Flux


def _payload(args: Any) -> dict[str, Any]:
    """The request of a drain or undrain. Raises ValueError."""
    if args.force and args.update:
        raise ValueError("Only one of --force and --update may be specified")
    payload: dict[str, Any] = {"targets": args.targets}
    if args.reason:
        payload["reason"] = " ".join(args.reason)
    if args.update:
        payload["mode"] = "update"
    elif args.force:
        payload["mode"] = "overwrite" if args.force == 1 else "force-overwrite"
    return payload


def drain_command(args: Any) -> None:
    """Drains nodes; without targets, lists those that are drained."""
    if args.targets is None:
        from flux.cli.commands.resource.status import list_drained

        list_drained(args)
        return
    try:
        Flux().rpc("resource.drain", _payload(args), nodeid=0).get()
    except OSError as exc:
        if exc.errno != errno.EEXIST:
            raise
        LOGGER.error(str(exc))
        LOGGER.info("Use --force to overwrite existing drain reason")
        sys.exit(1)


def undrain_command(args: Any) -> None:
    """Has drained nodes used again."""
    Flux().rpc("resource.undrain", _payload(args), nodeid=0).get()


def reload_command(args: Any) -> None:
    """Replaces the resources by those of a file."""
    payload = {"path": os.path.abspath(args.path), "xml": args.xml, "force": args.force}
    Flux().rpc("resource.reload", payload, nodeid=0).get()


def acquire_mute_command(args: Any) -> None:
    """Tells the scheduler nothing more."""
    Flux().rpc("resource.acquire-mute", nodeid=0).get()

"""flux queue: status, enable, disable, start, stop, drain, idle."""

from __future__ import annotations

from typing import Any

from flux.core.handle import Flux


def _name(args: Any) -> str | None:
    """The queue that is meant; None: all."""
    if args.old_queue is not None and args.QUEUE is not None and args.old_queue != args.QUEUE:
        raise ValueError(f"Conflicting queues specified as --queue={args.old_queue} and {args.QUEUE}")
    name: str | None = args.QUEUE if args.QUEUE is not None else args.old_queue
    return name


def _names(handle: Flux) -> list[str]:
    names: list[str] = handle.rpc("job-manager.queue-list").get()["queues"]
    return names


def _request(name: str | None, **more: Any) -> dict[str, Any]:
    return more if name is None else {"name": name, **more}


def _ask(handle: Flux, topic: str, request: dict[str, Any], what: str) -> Any:
    try:
        return handle.rpc(f"job-manager.{topic}", request, 0).get()
    except OSError as exc:
        raise ValueError(f"{what}: {exc.strerror}") from None


def _print(handle: Flux, name: str | None, what: tuple[str, ...]) -> None:
    """Prints how a queue does, or how all of them do."""
    names: list[str | None] = [*_names(handle)] if name is None else [name]
    for queue in names or [None]:
        status = _ask(handle, "queue-status", _request(queue), "status")
        prefix = "" if queue is None else f"{queue}: "
        if "enable" in what:
            state = "enabled" if status["enable"] else f"disabled: {status.get('disable_reason', '')}"
            print(f"{prefix}Job submission is {state}")
        if "start" in what:
            reason = status.get("stop_reason")
            state = "started" if status["start"] else f"stopped: {reason}" if reason else "stopped"
            print(f"{prefix}Scheduling is {state}")


def _print_counts(handle: Flux) -> None:
    counts = handle.rpc("job-manager.alloc-query", {}).get()
    print(f"{counts['queue_length']} alloc requests queued")
    print(f"{counts['alloc_pending']} alloc requests pending to scheduler")
    print(f"{counts['running']} running jobs")


def status_command(args: Any) -> None:
    """Prints how queues do."""
    name = _name(args)
    with Flux() as handle:
        _print(handle, None if args.verbose else name, ("enable", "start"))
        if args.verbose:
            _print_counts(handle)


def _enable(args: Any, enable: bool) -> None:
    name = _name(args)
    request = _request(name, enable=enable, all=args.all)
    if not enable:
        request["reason"] = args.message or "disabled by administrator"
    with Flux() as handle:
        _ask(handle, "queue-enable", request, "enable")
        _tell(handle, args, name, "enable")


def _start(args: Any, start: bool) -> None:
    name = _name(args)
    with Flux() as handle:
        if name is None and not args.all and _names(handle):
            raise ValueError("Named queues are defined. Specify queues or use --all.")
        request = _request(name, start=start, all=args.all, nocheckpoint=getattr(args, "nocheckpoint", False))
        if not start and args.message is not None:
            request["reason"] = args.message
        _ask(handle, "queue-start", request, "start")
        _tell(handle, args, name, "start")


def _tell(handle: Flux, args: Any, name: str | None, what: str) -> None:
    if not args.quiet:
        _print(handle, name, (what,))
        if args.verbose:
            _print_counts(handle)


def enable_command(args: Any) -> None:
    """Opens a queue for submissions."""
    _enable(args, True)


def disable_command(args: Any) -> None:
    """Closes a queue for submissions."""
    _enable(args, False)


def start_command(args: Any) -> None:
    """Has the jobs of a queue scheduled."""
    _start(args, True)


def stop_command(args: Any) -> None:
    """Has the jobs of a queue not scheduled."""
    _start(args, False)


def _wait(args: Any, topic: str) -> Any:
    from flux.util import parse_fsd

    timeout = -1.0 if args.timeout is None else parse_fsd(args.timeout)
    with Flux() as handle:
        rpc = handle.rpc(f"job-manager.{topic}")
        try:
            rpc.wait_for(timeout)
        except TimeoutError:
            raise ValueError(f"{topic}: timeout") from None
        try:
            return rpc.get()
        except OSError as exc:
            raise ValueError(f"{topic}: {exc.strerror}") from None


def drain_command(args: Any) -> None:
    """Waits until no job is active."""
    _wait(args, "drain")


def idle_command(args: Any) -> None:
    """Waits until no job runs."""
    pending = _wait(args, "idle")["pending"]
    if pending or not args.quiet:
        print(f"{pending} jobs")

"""flux top — what an instance does, on a terminal (spec 08, 10.6).

What is known of an instance is in `state`, what it looks like in `picture`; `feed` asks the instance, `screen` has the
terminal and the keys.
"""

from __future__ import annotations

import os

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, connect, run

COMMAND = Command(
    "top",
    "Watch the jobs and resources of an instance",
    [
        Option("", "color", "Use colors: auto, always or never.", "WHEN", optional=True, complete="auto|always|never"),
        Option("q", "queue", "Show only this queue.", "NAME"),
        Option("", "test-exit", "Exit after the first data.", hidden=True),
        Option("", "test-exit-dump", "Write the first data to a file.", "FILE", hidden=True),
    ],
    arguments="[TARGET]",
    words=(0, 1),
    complete=("job",),
    description=(
        "Shows how much of the resources is in use, how many jobs there are, and those that run. TARGET is a job that "
        "is an instance, or what flux uri understands; by default it is the enclosing instance.\n\n"
        "Keys: up and down (or k and j) choose a job; Enter goes into one that is an instance (blue), q comes back, "
        "and at the top ends the program. Left and right (or h and l) go through the queues. d shows the jobs "
        "that have ended as one number or by their result; Ctrl-L draws the screen anew."
    ),
    examples=(("flux top", "The enclosing instance."), ("flux top ƒ2oRvKCz", "The instance that a job is.")),
    see_also=("jobs", "pstree", "uptime"),
)


def _uri(target: str | None) -> str | None:
    """The URI of a target; None for the enclosing instance. Raises Failure."""
    if target is None:
        return None
    from flux.cli.target import resolve_target
    from flux.job._infoparts import _reachable

    uri = resolve_target(target, "failed to resolve target to a Flux URI")
    return _reachable(uri) if uri.startswith("ssh://") else uri


def _with_color(parsed: Parsed) -> bool:
    when = (parsed.value("color") or "always") if parsed.has("color") else "auto"
    if when not in ("always", "never", "auto"):
        raise Failure(f"invalid argument for --color: '{when}': use always, never or auto")
    return when == "always" or (when == "auto" and not os.environ.get("NO_COLOR"))


def _body(parsed: Parsed) -> int:
    for fd, name in enumerate(("stdin", "stdout")):
        if not os.isatty(fd):
            raise Failure(f"{name} is not a terminal")
    color = _with_color(parsed)
    uri = _uri(parsed.words[0] if parsed.words else None)
    from flux.cli.commands.top.screen import Place, Top

    dump = parsed.value("test-exit-dump")
    top = Top(lambda where: connect(COMMAND, where), color, parsed.has("test-exit") or dump is not None)
    state = top.run(Place(uri, queue=parsed.value("queue")))
    if dump is not None:
        with open(dump, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in state.dump())
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)

"""The TARGET argument of commands: what `flux uri` understands."""

from __future__ import annotations

from flux.cli.tool import Failure


def resolve_target(target: str, problem: str) -> str:
    """What to connect to for a target: no ssh to this host, unless the target is such a URI itself.

    Raises Failure that says `problem`, and in a second line why.
    """
    if target.startswith("fd://"):
        return target  # an open connection, which resolvers know nothing of
    from flux.uri import FluxURIResolver

    try:
        found = FluxURIResolver().resolve(target)
        return str(found) if target.startswith("ssh://") else found.nearest
    # Resolvers are plugins, and may lack what they need.
    except (OSError, ValueError, NotImplementedError, ImportError) as exc:
        raise Failure(problem, hints=(getattr(exc, "strerror", None) or str(exc),)) from None

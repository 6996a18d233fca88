"""The TARGET argument of commands: what `flux uri` understands."""

from __future__ import annotations

from flux.cli.tool import Failure


def resolve_target(target: str, problem: str) -> str:
    """The URI of a target. Raises Failure that says `problem`, and in a second line why."""
    if target.startswith("fd://"):
        return target  # an open connection, which resolvers know nothing of
    from flux.uri import FluxURIResolver

    try:
        return str(FluxURIResolver().resolve(target))
    # Resolvers are plugins, and may lack what they need.
    except (OSError, ValueError, NotImplementedError, ImportError) as exc:
        raise Failure(problem, hints=(getattr(exc, "strerror", None) or str(exc),)) from None

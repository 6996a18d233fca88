"""Mustache templates: `{{tag}}` in arguments, paths and values (spec 07, 5.8)."""

from __future__ import annotations

from collections.abc import Callable


class TemplateError(ValueError):
    """A tag that is not closed; the text says where it opens."""


def expand(template: str, value_of: Callable[[str], str | None]) -> str:
    """`template` with its tags replaced; a tag for which `value_of` gives None stays as it is.

    Raises TemplateError for a tag that is not closed.
    """
    start = template.find("{{")
    if start < 0:
        return template
    pieces: list[str] = []
    pos = 0
    while start >= 0:
        end = template.find("}}", start + 2)
        if end < 0:
            raise TemplateError(f"mustache template error at pos={start}")
        value = value_of(template[start + 2 : end].strip())
        pieces += (template[pos:start], template[start : end + 2] if value is None else value)
        pos = end + 2
        start = template.find("{{", pos)
    pieces.append(template[pos:])
    return "".join(pieces)


def tags(template: str) -> list[str]:
    """The tags of a template, in order. Raises TemplateError as `expand` does."""
    found: list[str] = []

    def note(tag: str) -> None:
        found.append(tag)

    expand(template, note)
    return found

"""Resource shapes (RFC 46) to the resources of a jobspec (RFC 14): spec 07, section 8.6.

    ShapeParser().parse("slot=10/[core=2;gpu]")

The grammar, one method a rule:

    shape      = resources end
    resources  = "[" resource *( ";" resource ) "]" / resource
    resource   = type [ "=" [count] ] [ attributes ] [ "/" resources ]
    attributes = "{" attribute *( "," attribute ) "}"
    attribute  = key ":" value / "+" key / "-" key / word
    value      = word / string / "[" value *( "," value ) "]" / attributes

A word alone is a slot's label, or a flag; ``x`` is short for exclusive. Slots have something in them, and labels, if
there are several.
"""

from __future__ import annotations

from typing import Any

from flux.shape.lexer import ShapeLexer, ShapeSyntaxError, Token

__all__ = ["ShapeLexer", "ShapeParser", "ShapeSyntaxError"]

#: Deeper nesting is refused rather than left to Python's recursion limit.
_MAX_DEPTH = 100


class ShapeParser:
    """Parses shapes.

    Args:
        lexer: a ShapeLexer to use instead of a new one.
        default_slot_label: of a slot without one; by default ``task``.
        range_as_dict: counts that are ranges become objects, not text.

    The other arguments are those of the reference's parser generator, and mean nothing here.
    """

    def __init__(
        self,
        lexer: ShapeLexer | None = None,
        optimize: bool = True,
        debug: bool = False,
        write_tables: bool = False,
        **kw_args: Any,
    ) -> None:
        self.lexer = ShapeLexer() if lexer is None else lexer
        self.default_slot_label: str = kw_args.get("default_slot_label", "task")
        self.range_as_dict: bool = kw_args.get("range_as_dict", False)

    def parse(self, query: str, **kw_args: Any) -> list[dict[str, Any]]:
        """The vertices that `query` stands for. Raises ShapeSyntaxError."""
        self.lexer.input(query)
        return _Parse(self, query).shape()


class _Parse:
    """One shape being parsed, a token ahead."""

    def __init__(self, parser: ShapeParser, query: str) -> None:
        self.parser = parser
        self.text = query
        self.depth = 0
        self.slots = 0
        self.unlabelled = 0
        self.next: Token | None = None
        self.advance()

    def advance(self) -> None:
        self.next = self.parser.lexer.token()

    def at(self, *types: str) -> bool:
        return self.next is not None and self.next.type in types

    def take(self, *types: str) -> Token:
        """The next token, which must be of one of these types."""
        token = self.next
        if token is None:
            raise ShapeSyntaxError(f"Unexpected end of input in '{self.text}'")
        if token.type not in types:
            raise ShapeSyntaxError(f"Invalid token '{token.value}' at position {token.position}")
        self.advance()
        return token

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ShapeSyntaxError(f"more than {_MAX_DEPTH} levels in '{self.text}'")

    def shape(self) -> list[dict[str, Any]]:
        vertices = self.resources()
        if self.next is not None:
            raise ShapeSyntaxError(f"Invalid token '{self.next.value}' at position {self.next.position}")
        if self.slots > 1 and self.unlabelled:
            raise ShapeSyntaxError("Multiple slots require labels")
        return vertices

    def resources(self) -> list[dict[str, Any]]:
        self.deeper()
        if not self.at("["):
            vertices = [self.resource()]
        else:
            opened = self.take("[")
            vertices = [self.inside(opened)]
            while self.at(";"):
                self.advance()
                vertices.append(self.inside(opened))
            self.close("]", opened, "bracket")
        self.depth -= 1
        return vertices

    def inside(self, opened: Token) -> dict[str, Any]:
        """A resource in brackets."""
        if self.next is None:
            raise ShapeSyntaxError(f"Unclosed bracket in position {opened.position}")
        return self.resource()

    def close(self, bracket: str, opened: Token, name: str) -> None:
        if self.next is None:
            raise ShapeSyntaxError(f"Unclosed {name} in position {opened.position}")
        self.take(bracket)

    def resource(self) -> dict[str, Any]:
        kind = self.take("word", "string").value
        is_slot = kind.lower() == "slot"
        vertex: dict[str, Any] = {"type": "slot" if is_slot else kind, "count": 1}
        if self.at("="):
            count = self.parser.lexer.count()
            self.advance()
            if count is not None:
                vertex["count"] = self.count(count.value)
        attributes: dict[str, Any] = {}
        label = None
        if self.at("{"):
            attributes, label = self.attributes(is_slot)
        if is_slot:
            self.slots += 1
            self.unlabelled += label is None
            vertex["label"] = self.parser.default_slot_label if label is None else label
        vertex.update(attributes)
        if is_slot or self.at("/"):
            self.take("/")
            vertex["with"] = self.resources()
        return vertex

    def count(self, text: str) -> Any:
        if text.isdecimal():
            return int(text)
        if not self.parser.range_as_dict or "," in text:
            return text
        span, *rest = text.split(":")
        low, _, high = span.rstrip("+").partition("-")
        if span.endswith("+") and not rest:
            return {"min": int(low)}
        return {
            "min": int(low),
            "max": int(high) if high else float("inf"),
            "operand": int(rest[0]) if rest else 1,
            "operator": rest[1] if len(rest) > 1 else "+",
        }

    def attributes(self, of_slot: bool, within: bool = False) -> tuple[dict[str, Any], str | None]:
        """Attributes in braces, and the label among them; `within` a value names have no short forms."""

        def name_of(key: str) -> str:
            return "exclusive" if key == "x" and not within else key

        self.deeper()
        opened = self.take("{")
        found: dict[str, Any] = {}
        label = None
        while True:
            if self.next is None:
                raise ShapeSyntaxError(f"Unclosed brace in position {opened.position}")
            token = self.take("word", "string")
            key, value = token.value, True
            flag = token.type == "word" and key[0] in "+-" and len(key) > 1
            if self.at(":") and not flag:
                self.advance()
                found[name_of(key)] = self.value()
            elif of_slot and not flag and key != "x":
                label = key
            else:
                if flag:
                    key, value = key[1:], key[0] == "+"
                found[name_of(key)] = value
            if not self.at(","):
                break
            self.advance()
        self.close("}", opened, "brace")
        self.depth -= 1
        return found, label

    def value(self) -> Any:
        if self.at("{"):
            return self.attributes(False, within=True)[0]
        if self.at("["):
            return self.values()
        token = self.take("word", "string")
        return token.value if token.type == "string" else _literal(token.value)

    def values(self) -> list[Any]:
        self.deeper()
        opened = self.take("[")
        found = [self.value()]
        while self.at(","):
            self.advance()
            found.append(self.value())
        self.close("]", opened, "bracket")
        self.depth -= 1
        return found


def _literal(word: str) -> Any:
    match word.lower():
        case "true":
            return True
        case "false":
            return False
        case "null":
            return None
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word

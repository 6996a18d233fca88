"""Constraint queries (RFC 35) to constraint objects (RFC 31): spec 07, section 8.5.

    class Parser(ConstraintParser):
        operator_map = {None: "properties", "host": "hostlist"}
        split_values = {"properties": ","}
        combined_terms = {"properties"}

    Parser().parse("a,b host:foo[1-3]")     {"and": [{"properties": ["a", "b"]}, {"hostlist": ["foo[1-3]"]}]}

The grammar, one method a rule; the lexer (`flux.constraint.lexer`) has already seen to quotes and operators:

    query        = disjunction end
    disjunction  = conjunction *( "or" conjunction )
    conjunction  = negation *( ["and"] negation )
    negation     = "not" negation / "(" disjunction ")" / term
    term         = ["-"] [operator] value

Terms are checked in the order of the text, so that the first mistake is the one reported.
"""

from __future__ import annotations

from typing import Any, ClassVar

from flux.constraint.lexer import ConstraintLexer, ConstraintSyntaxError, Token, invalid_operator

__all__ = ["ConstraintLexer", "ConstraintParser", "ConstraintSyntaxError"]

#: An RFC 31 object: one operator and its operands.
Constraint = dict[str, list[Any]]

#: Deeper nesting is refused rather than left to Python's recursion limit.
_MAX_DEPTH = 100


class ConstraintParser:
    """Parses queries. Subclasses say what operators mean, in class attributes.

    `lexer` is a ConstraintLexer to use instead of a new one; the other arguments are those of the reference's parser
    generator and mean nothing here.
    """

    #: Operator as written to operator of the result; None is the operator of a term that is written without.
    operator_map: ClassVar[dict[str | None, str]] = {}
    #: Operator to the separator at which its values are split.
    split_values: ClassVar[dict[str, str]] = {}
    #: Operators whose terms are merged into one when they are joined by "and".
    combined_terms: ClassVar[set[str]] = set()

    def __init__(
        self,
        lexer: ConstraintLexer | None = None,
        optimize: bool = True,
        debug: bool = False,
        write_tables: bool = False,
        **kw_args: Any,
    ) -> None:
        self.lexer = ConstraintLexer() if lexer is None else lexer

    def parse(self, query: str, **kw_args: Any) -> Constraint:
        """The constraint that `query` stands for. Raises ConstraintSyntaxError."""
        self.lexer.input(query)
        return _Parse(self, query).query()

    def combine_like_terms(self, p1: Constraint, p2: Constraint) -> Constraint:
        """The conjunction of two constraints; neither is changed.

        Terms are merged while there is nothing else in the conjunction (``a b x:1``, not ``x:1 a b``), as in the
        reference: what is compared with its output, by tools or by eye, should look the same.
        """
        (operator,) = p2
        if operator in self.combined_terms and operator in p1:
            return {operator: [*p1[operator], *p2[operator]]}
        return {"and": [*p1.get("and", [p1]), p2]}

    @staticmethod
    def invalid_operator(op: str) -> str | None:
        """The first character of `op` that the name of an operator cannot have, or None if there is none."""
        return invalid_operator(op)


class _Parse:
    """One query being parsed, a token ahead."""

    def __init__(self, parser: ConstraintParser, query: str) -> None:
        self.parser = parser
        self.text = query
        self.depth = 0
        self.next: Token | None = None
        self.advance()

    def advance(self) -> None:
        self.next = self.parser.lexer.token()

    def at(self, *types: str) -> bool:
        return self.next is not None and self.next.type in types

    def unexpected(self) -> ConstraintSyntaxError:
        token = self.next
        if token is None:
            return ConstraintSyntaxError(f"Unexpected end of input in '{self.text}'")
        return ConstraintSyntaxError(f"Invalid token '{token.value}' at position {token.position}")

    def query(self) -> Constraint:
        result = self.disjunction()
        if self.next is not None:  # only a ")" ends a disjunction
            raise ConstraintSyntaxError(f"Mismatched parentheses starting at position {self.next.position}.")
        return result

    def disjunction(self) -> Constraint:
        terms = [self.conjunction()]
        while self.at("or"):
            self.advance()
            terms.append(self.conjunction())
        return terms[0] if len(terms) == 1 else {"or": terms}

    def conjunction(self) -> Constraint:
        result = self.negation()
        while self.next is not None and not self.at("or", ")"):
            if self.at("and"):
                self.advance()
            result = self.parser.combine_like_terms(result, self.negation())
        return result

    def negation(self) -> Constraint:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ConstraintSyntaxError(f"more than {_MAX_DEPTH} levels of 'not' and parentheses in '{self.text}'")
        if self.at("not"):
            self.advance()
            result: Constraint = {"not": [self.negation()]}
        elif self.at("("):
            result = self.parenthesized()
        else:
            result = self.term()
        self.depth -= 1
        return result

    def parenthesized(self) -> Constraint:
        assert self.next is not None
        position = self.next.position
        self.advance()
        result = self.disjunction()
        if self.next is None:
            raise ConstraintSyntaxError(f"Unclosed parenthesis in position {position}")
        self.advance()
        return result

    def term(self) -> Constraint:
        if self.at("negate"):
            self.advance()
            if not self.at("operator", "value"):
                raise self.unexpected()
            return {"not": [self.term()]}
        written: str | None = None
        if self.at("operator"):
            assert self.next is not None
            written = self.next.value
            self.advance()
        if not self.at("value"):
            raise self.unexpected()
        assert self.next is not None
        value = self.next.value
        result = self.operation(written, value)
        self.advance()
        return result

    def operation(self, written: str | None, value: str) -> Constraint:
        operators = self.parser.operator_map
        if written is None and None not in operators:
            raise ConstraintSyntaxError(f'Missing required operator in "{value}"')
        operator = operators.get(written, written)
        assert operator is not None
        separator = self.parser.split_values.get(operator)
        return {operator: value.split(separator) if separator else [value]}

"""On which ranks something is done: ``all``, an idset, or ``>N`` and ``<N``."""

from __future__ import annotations

from flux.idset import IDset


class RankConditional:
    """Ranks above or below a number.

    Args:
        arg: ``>N`` or ``<N``.

    Raises ValueError for another text.
    """

    def __init__(self, arg: str) -> None:
        sign, number = arg[:1], arg[1:].strip()
        if sign not in ("<", ">") or not (number.isascii() and number.isdigit()):
            raise ValueError(f"'{arg}' is no condition on ranks: expected >N or <N")
        self.sign = sign
        self.rank = int(number)

    def test(self, rank: int) -> bool:
        """Whether a rank is one of them."""
        return rank > self.rank if self.sign == ">" else rank < self.rank

    def __str__(self) -> str:
        return f"{self.sign}{self.rank}"


class RankIDset:
    """Ranks of a set.

    Args:
        arg: an idset such as ``0,2-4``, or ``all``.

    Raises ValueError for another text.
    """

    def __init__(self, arg: str) -> None:
        self.all = arg == "all"
        self.ranks = IDset("" if self.all else arg)

    def test(self, rank: int) -> bool:
        """Whether a rank is one of them."""
        return self.all or rank in self.ranks

    def __str__(self) -> str:
        return "all" if self.all else str(self.ranks)


def rank_conditional(arg: str) -> RankConditional | RankIDset:
    """What a text says of ranks. Raises ValueError."""
    return RankConditional(arg) if arg.startswith(("<", ">")) else RankIDset(arg)

"""`Tree`: labels printed as a tree (spec 02, 13.6; the picture of `flux pstree`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_UNKNOWN_TERMINAL = (132, 25)


class Tree:
    """A label with children.

    Args:
        label: the text.
        prefix: text for the left margin of the label's line, before the tree.
        combine_children: print equal children that have none themselves as one, ``3*[label]``.
    """

    class Connectors(NamedTuple):
        """The lines that connect labels."""

        pipe: str  # beside a branch that goes on
        tee: str  # to a child
        elbow: str  # to the last child
        blank: str  # beside a branch that has ended

    connector_styles = {
        "box": Connectors("│   ", "├── ", "└── ", "    "),
        "ascii": Connectors("|   ", "|-- ", "`-- ", "    "),
        "compact": Connectors("│ ", "├─", "└─", "  "),
    }

    def __init__(self, label: str, prefix: str = "", combine_children: bool = False) -> None:
        self.label = label
        self.prefix = prefix
        self.combine_children = combine_children
        self.children: list[Tree] = []
        self.count = 1

    def append(self, label: str, prefix: str = "") -> Tree:
        """Adds a child, which combines its own children as this one does, and returns it."""
        return self.add(label, prefix, self.combine_children)

    def append_tree(self, tree: Tree) -> Tree:
        """Adds a tree as a child, and returns it."""
        self.children.append(tree)
        return tree

    def add(self, label: str, prefix: str = "", combine_children: bool = False) -> Tree:
        """Adds a child, and returns it."""
        return self.append_tree(Tree(label, prefix, combine_children))

    def increment(self) -> None:
        """Counts the label once more: it is printed as ``N*[label]``."""
        self.count += 1

    def render(
        self, style: str = "box", level: int | None = None, skip_root: bool = False, truncate: bool = True
    ) -> None:
        """Prints the tree.

        Args:
            style: ``box``, ``ascii`` or ``compact``. Raises KeyError for any other.
            level: how many levels below the root to print; all by default.
            skip_root: leave out the root, and print its children as roots.
            truncate: cut lines at the width of the terminal (132 if unknown), ``+`` in the last place.
        """
        connectors = self.connector_styles[style]
        width = 0
        if truncate:
            from shutil import get_terminal_size

            width = get_terminal_size(_UNKNOWN_TERMINAL).columns
        for line in self._lines(connectors, level, skip_root):
            print(line[: width - 1] + "+" if 0 < width < len(line) else line)

    def _lines(self, connectors: Tree.Connectors, level: int | None, skip_root: bool) -> Iterator[str]:
        if not skip_root:
            yield self._line("", self.count)
            yield from self._branches(connectors, "", level)
        elif level is None or level > 0:
            below = None if level is None else level - 1
            for child, count in self._counted_children():
                yield child._line("", count)
                yield from child._branches(connectors, "", below)

    def _branches(self, connectors: Tree.Connectors, margin: str, level: int | None) -> Iterator[str]:
        if level is not None and level <= 0:
            return
        below = None if level is None else level - 1
        children = self._counted_children()
        for number, (child, count) in enumerate(children, 1):
            last = number == len(children)
            yield child._line(margin + (connectors.elbow if last else connectors.tee), count)
            yield from child._branches(connectors, margin + (connectors.blank if last else connectors.pipe), below)

    def _counted_children(self) -> list[tuple[Tree, int]]:
        # Equal children are only known when the tree is complete: one may get children after it was added.
        if not self.combine_children:
            return [(child, child.count) for child in self.children]
        counts: dict[tuple[object, ...], tuple[Tree, int]] = {}
        for child in self.children:
            key = (id(child),) if child.children else (child.label, child.prefix)
            first, count = counts.get(key, (child, 0))
            counts[key] = (first, count + child.count)
        return list(counts.values())

    def _line(self, branch: str, count: int) -> str:
        label = self.label if count == 1 else f"{count}*[{self.label}]"
        return f"{self.prefix} {branch}{label}" if self.prefix else f"{branch}{label}"

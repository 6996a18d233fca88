"""What mkdocs does for this site beyond Markdown (see mkdocs.yml).

Rules:
- docs/index.md is the table of contents: its headings and the links below them are the navigation. A page that it does
  not name is listed under "More".
- Pages that say what the code says are made from the code, at each build: one for each module of the API by
  mkdocstrings, one for each command by `fluxlet.cmd.manual`.
- The documents are written to be read in the repository. Links out of docs/ lead to copies here, and the words that
  tests/test_docs.py wants behind the fence of a block become its title.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page as SitePage

from fluxlet.cmd.builtins import BUILTINS, GROUPS
from fluxlet.cmd.manual import Entry, Page, page

ROOT = Path(__file__).parent.parent

#: Files outside docs/ that have a page of their own, by its name.
OUTSIDE = {
    "README.md": "readme-of-the-project.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}

#: Modules that the reference does not have, beside those of tests/spec/api.json.
OWN_MODULES = ("flux.aio", "fluxlet.testing")

_LINK = re.compile(r"\]\(((?:\.\./)*)([^)\s#:]+)(#[^)\s]*)?\)")


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a warning about a reference is one to act on: in a docstring, `a["b"]["c"]` is an expression."""
    return not record.getMessage().startswith("mkdocs_autorefs: reference/")


logging.getLogger("mkdocs.plugins.mkdocs_autorefs._internal.plugin").addFilter(_is_ours)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and makes the navigation."""

    def add(name: str, text: str) -> str:
        files.append(File.generated(config, name, content=text))
        return name

    for source, name in OUTSIDE.items():
        add(name, _from_outside((ROOT / source).read_text()))
    for example in sorted((ROOT / "examples").glob("*.py")):
        add(f"examples/{example.name}.md", f"# {example.name}\n\n```python\n{example.read_text()}```\n")
    modules = [{name: add(f"reference/{name}.md", f"# {name}\n\n::: {name}\n")} for name in modules_of_the_api()]
    commands: list[Any] = []
    for group, title in GROUPS:
        pages = [
            {f"flux {name}": add(f"commands/{name}.md", command_text(found))}
            for name, (_, member, _) in sorted(BUILTINS.items())
            if member == group and (found := page(name)) is not None
        ]
        if pages:
            commands.append({title.removeprefix("Commands to ").capitalize(): pages})
    navigation = navigation_of((ROOT / "docs" / "index.md").read_text())
    listed = {name for section in navigation for entry in _entries(section) for name in entry.values()}
    left = [name for file in files.documentation_pages() if "/" not in (name := file.src_uri) and name not in listed]
    left = [name for name in left if name not in ("index.md", *OUTSIDE.values())]
    config["nav"] = [
        {"Home": "index.md"},
        *navigation,
        *([{"More": left}] if left else []),
        {"Commands": commands},
        {"Python": modules},
        {"The project": [{"README": OUTSIDE["README.md"]}, {"Changes": OUTSIDE["CHANGELOG.md"]}]},
    ]
    return files


def on_page_markdown(markdown: str, page: SitePage, config: MkDocsConfig, files: Files) -> str:
    """Readies a document for the site: its links out of docs/, and the fences of its blocks."""
    return _fences(_LINK.sub(_inside, markdown) if page.file.generated_by is None else markdown)


# Navigation.


def navigation_of(index: str) -> list[dict[str, Any]]:
    """The sections of docs/index.md: `## TITLE` and the links below it, in order."""
    sections: list[dict[str, Any]] = []
    for part in re.split(r"^## ", index, flags=re.M)[1:]:
        title, _, text = part.partition("\n")
        links = [(label, _target(target)) for label, target in re.findall(r"\[([^\]]+)\]\(([^)#]+)\)", text)]
        pages = [{label: target} for label, target in links if target is not None]
        if pages:
            sections.append({title.strip(): pages})
    return sections


def _entries(section: dict[str, Any]) -> list[dict[str, str]]:
    return [entry for entries in section.values() for entry in entries]


def _target(target: str) -> str | None:
    """The page behind a link of docs/index.md; None for one that has its place elsewhere."""
    if target.startswith("../"):
        return OUTSIDE.get(target.removeprefix("../"))
    return None if target.startswith(("reference/", "commands/")) else target


# Links and fences.


def _inside(link: re.Match[str]) -> str:
    """A link of a document in docs/, as it is on the site."""
    up, path, anchor = link.groups()
    if not up:
        return link[0]
    if path in OUTSIDE:
        return f"]({OUTSIDE[path]}{anchor or ''})"
    return f"]({path}.md{anchor or ''})" if path.startswith("examples/") else link[0]


def _from_outside(text: str) -> str:
    """A document of the repository's root, as it is on the site."""

    def place(link: re.Match[str]) -> str:
        up, path, anchor = link.groups()
        anchor = anchor or ""
        if path in OUTSIDE:
            return f"]({OUTSIDE[path]}{anchor})"
        if path.startswith("docs/"):
            return f"]({path.removeprefix('docs/')}{anchor})"
        if path.startswith("examples/") and path.endswith(".py"):
            return f"]({path}.md{anchor})"
        return "]" if up or (ROOT / path).exists() else link[0]

    return re.sub(r"\[([^\]]+)\]$", r"\1", _LINK.sub(place, text), flags=re.M)


def _fences(text: str) -> str:
    text = re.sub(r"^```console run$", "```console", text, flags=re.M)
    return re.sub(r"^```(\w+) (\S+)$", r'```\1 title="\2"', text, flags=re.M)


# Pages made from the code.


def modules_of_the_api() -> list[str]:
    """The public modules that there are, by name."""
    described = json.loads((ROOT / "tests" / "spec" / "api.json").read_text())["modules"]
    found = {name for name in (*described, *OWN_MODULES) if _exists(name) and "._" not in f".{name}"}
    return sorted(found, key=str.lower)


def _exists(module: str) -> bool:
    path = ROOT / "src" / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def command_text(found: Page) -> str:
    """The page of a command as Markdown."""
    out = [f"# {found.name}", f"{_markdown(found.summary)}."]
    out.append("\n".join(["```text", *(sub.usage for sub in found.walk() if not sub.subcommands), "```"]))
    out += [_markdown(text) for text in found.description]
    out += _list("Arguments", found.arguments, "##") + _list("Options", found.options, "##")
    for sub in list(found.walk())[1:]:
        out += [f"## {sub.name}", f"{_markdown(sub.summary)}.", f"```text\n{sub.usage}\n```"]
        out += [_markdown(text) for text in sub.description]
        out += _list("", sub.arguments, "###") + _list("", sub.options, "###")
    if found.more:
        out += ["## More", f"```text\n{found.more}\n```"]
    if found.examples:
        out.append("## Examples")
        for line, text in found.examples:
            out += [_markdown(text), f"```console\n$ {line}\n```"]
    others = [f"[flux {name}]({name}.md)" for name in found.see_also if BUILTINS.get(name, ("", "", ""))[1]]
    if others:
        out += ["## See also", ", ".join(others)]
    return "\n\n".join(out) + "\n"


def _list(title: str, entries: tuple[Entry, ...], level: str) -> list[str]:
    if not entries:
        return []
    items = [f"`{entry.synopsis()}`\n:   {_markdown(entry.help) or '&nbsp;'}" for entry in entries]
    return [*([f"{level} {title}"] if title else []), "\n\n".join(items)]


def _markdown(text: str) -> str:
    """A plain text as Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#])", r"\\\1", text)

"""flux kvs — reads and changes the key-value store (spec 05, 13.1).

The table is here; what the commands do is in the files of this package, which load when their command runs.
"""

from __future__ import annotations

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import run

_NAMESPACE = Option("N", "namespace", "Use this namespace, not that of $FLUX_KVS_NAMESPACE or primary.", "NS")
_ROOT = [
    Option("O", "treeobj-root", "Print the new root, as a tree object."),
    Option("b", "blobref", "Print the blobref of the new root."),
    Option("s", "sequence", "Print the sequence number of the new root."),
]
_AT = Option("a", "at", "Look into the snapshot that TREEOBJ is the root of.", "TREEOBJ")
_WIDTH = Option("w", "width", "Use lines of COLS characters; 0: as long as they get.", "COLS")
_COPY = [
    Option("S", "src-namespace", "The namespace of the source.", "NS"),
    Option("D", "dst-namespace", "The namespace of the destination.", "NS"),
]
_WAITCREATE = Option("W", "waitcreate", "Wait for a key that is not there yet.")
_EVENT_FORM = [
    Option("u", "unformatted", "Print events as they are stored, as JSON."),
    Option("H", "human", "Make times easy to read: once a minute the date, then seconds since."),
    Option("L", "color", "Colors: always, never or auto (default). Without WHEN: always.", "WHEN", optional=True),
]

COMMAND = Command(
    "kvs",
    "Read and change the key-value store",
    subcommands=[
        Command(
            "kvs namespace",
            "Make, remove and list namespaces",
            subcommands=[
                Command(
                    "kvs namespace create",
                    "Make a namespace",
                    [
                        Option("o", "owner", "The userid that may use it besides the instance owner.", "UID"),
                        Option("r", "rootref", "Begin with this root, not an empty one.", "ROOTREF"),
                    ],
                    "name [name...]",
                    (1, None),
                ),
                Command("kvs namespace remove", "Remove a namespace", (), "name [name...]", (1, None)),
                Command("kvs namespace list", "List namespaces"),
            ],
        ),
        Command(
            "kvs get",
            "Print the value of a key",
            [
                _NAMESPACE,
                Option("r", "raw", "Print the bytes as they are, without a newline."),
                Option("t", "treeobj", "Print the tree object."),
                _AT,
                Option("l", "label", "Print the key and = before the value."),
                _WAITCREATE,
                Option("w", "watch", "Go on with each new value."),
                Option("u", "uniq", "With --watch: only values that differ from the one before."),
                Option("A", "append", "With --watch: only what is appended."),
                Option("f", "full", "With --watch: notice also what changes in directories above the key."),
                Option("c", "count", "With --watch: stop after COUNT values.", "COUNT"),
                Option("S", "stream", "Print a long value piece by piece, as it comes."),
            ],
            "key [key...]",
            (1, None),
        ),
        Command(
            "kvs put",
            "Store values",
            [
                _NAMESPACE,
                *_ROOT,
                Option("r", "raw", "A value of - stands for standard input."),
                Option("t", "treeobj", "Values are tree objects; - stands for standard input."),
                Option("n", "no-merge", "Do not merge this with commits of others."),
                Option("A", "append", "Append to what is there."),
                Option("S", "sync", "Return when it would survive a crash."),
            ],
            "key=value [key=value...]",
            (1, None),
        ),
        Command(
            "kvs dir",
            "Print a directory, keys and values",
            [
                _NAMESPACE,
                Option("R", "recursive", "With all that is below it."),
                Option("d", "directory", "Print keys only."),
                _WIDTH,
                _AT,
            ],
            "[key]",
            (0, 1),
        ),
        Command(
            "kvs ls",
            "List directories",
            [
                _NAMESPACE,
                Option("R", "recursive", "With all that is below them."),
                Option("d", "directory", "List directories themselves, not what is in them."),
                _WIDTH,
                Option("1", "1", "One name a line."),
                Option("F", "classify", "Append . to directories and @ to links."),
            ],
            "[key...]",
            (0, None),
        ),
        Command(
            "kvs unlink",
            "Remove keys",
            [
                _NAMESPACE,
                *_ROOT,
                Option("R", "recursive", "Remove directories with what is in them."),
                Option("f", "force", "A key that is not there is no error."),
            ],
            "key [key...]",
            (1, None),
        ),
        Command(
            "kvs link",
            "Make a link to a key",
            [_NAMESPACE, Option("T", "target-namespace", "The namespace that the target is in.", "NS"), *_ROOT],
            "target linkname",
            (2, 2),
        ),
        Command(
            "kvs readlink",
            "Print where links lead",
            [
                _NAMESPACE,
                _AT,
                Option("o", "namespace-only", "Print the namespace only."),
                Option("k", "key-only", "Print the key only."),
            ],
            "key [key...]",
            (1, None),
        ),
        Command("kvs mkdir", "Make empty directories", [_NAMESPACE, *_ROOT], "key [key...]", (1, None)),
        Command("kvs copy", "Copy a key", _COPY, "source destination", (2, 2)),
        Command("kvs move", "Rename a key", _COPY, "source destination", (2, 2)),
        Command("kvs version", "Print the sequence number of the root", [_NAMESPACE]),
        Command("kvs wait", "Wait until the root has a sequence number", [_NAMESPACE], "version", (1, 1)),
        Command(
            "kvs getroot",
            "Print the root",
            [
                _NAMESPACE,
                Option("s", "sequence", "Print its sequence number."),
                Option("o", "owner", "Print the userid of the namespace's owner."),
                Option("b", "blobref", "Print its blobref."),
            ],
        ),
        Command("kvs sync", "Make sure that what is stored would survive a crash"),
        Command(
            "kvs eventlog",
            "Read and write eventlogs",
            subcommands=[
                Command(
                    "kvs eventlog append",
                    "Append an event",
                    [_NAMESPACE, Option("t", "timestamp", "The event's time, in seconds since the epoch.", "SECONDS")],
                    "key name [context...]",
                    (2, None),
                ),
                Command(
                    "kvs eventlog get",
                    "Print events",
                    [
                        _NAMESPACE,
                        _WAITCREATE,
                        Option("w", "watch", "Go on with each new event."),
                        Option("c", "count", "With --watch: stop after COUNT events.", "COUNT"),
                        *_EVENT_FORM,
                        Option("S", "stream", "Print a long log piece by piece, as it comes."),
                    ],
                    "key",
                    (1, 1),
                ),
                Command(
                    "kvs eventlog wait-event",
                    "Wait for an event, and print it",
                    [
                        _NAMESPACE,
                        _WAITCREATE,
                        Option("t", "timeout", "Wait no longer than this.", "DURATION"),
                        *_EVENT_FORM,
                        Option("q", "quiet", "Print nothing."),
                        Option("v", "verbose", "Print the events before it, too."),
                    ],
                    "key event",
                    (2, 2),
                ),
            ],
        ),
    ],
)

#: The file that has each group of commands.
_FILES = {
    "get": "get",
    "put": "put",
    "dir": "listing",
    "ls": "listing",
    "unlink": "entries",
    "link": "entries",
    "readlink": "entries",
    "mkdir": "entries",
    "copy": "entries",
    "move": "entries",
    "version": "roots",
    "wait": "roots",
    "getroot": "roots",
    "sync": "roots",
    "namespace": "namespaces",
    "eventlog": "eventlogs",
}


def _body(parsed: Parsed) -> int:
    from importlib import import_module

    words = parsed.command.name.split()[1:]
    module = import_module(f"flux.cli.commands.kvs.{_FILES[words[0]]}")
    action = getattr(module, words[-1].replace("-", "_") + "_command")
    status: int = action(parsed)
    return status


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)

"""The option parser of the C-style commands (spec 03, 2.2)."""

from __future__ import annotations

import pytest

from flux.cli.options import Command, Option, UsageError

OPTIONS = [
    Option("r", "rank", "Where to.", "RANK"),
    Option("f", "force", "Insist."),
    Option("L", "color", "Paint.", "WHEN", optional=True),
    Option("", "reconnect", "Try again."),
    Option("", "secret", "Nobody is to know.", hidden=True),
]
COMMAND = Command("ping", "Ping", OPTIONS, arguments="TARGET", words=(0, None))
PERMUTING = Command("logger", "Log", OPTIONS, words=(0, None), permute=True, help_status=1)
BUILTIN = Command("getattr", "Get", arguments="name", words=(1, 1), builtin=True)
PARENT = Command("event", "Events", subcommands=[Command("event pub", "Publish", OPTIONS, words=(1, None))])


@pytest.mark.parametrize(
    ("argv", "options", "words"),
    [
        ([], {}, []),
        (["-r", "1", "x"], {"rank": "1"}, ["x"]),
        (["-r1", "x"], {"rank": "1"}, ["x"]),
        (["-fr1"], {"rank": "1", "force": None}, []),
        (["--rank", "1"], {"rank": "1"}, []),
        (["--rank=1"], {"rank": "1"}, []),
        (["--rank="], {"rank": ""}, []),
        (["--ra=1"], {"rank": "1"}, []),
        (["-r", "1", "-r", "2"], {"rank": "2"}, []),
        (["-r", "-1"], {"rank": "-1"}, []),
        (["x", "-f"], {}, ["x", "-f"]),
        (["-f", "--", "-f"], {"force": None}, ["-f"]),
        (["-", "-f"], {}, ["-", "-f"]),
        (["-L", "x"], {"color": None}, ["x"]),
        (["-Lalways"], {"color": "always"}, []),
        (["-L=always"], {"color": "=always"}, []),
        (["--color=never"], {"color": "never"}, []),
        (["--color", "never"], {"color": None}, ["never"]),
        (["--secret"], {"secret": None}, []),
    ],
)
def test_options_end_at_the_first_word(argv: list[str], options: dict[str, str | None], words: list[str]) -> None:
    parsed = COMMAND.parse(argv)
    found = {option.name: parsed.value(option.name) for option in COMMAND.options if parsed.has(option.name)}
    assert (found, parsed.words) == (options, words)


def test_a_permuting_command_takes_options_anywhere() -> None:
    parsed = PERMUTING.parse(["a", "-f", "b", "--", "-r"])
    assert (parsed.has("force"), parsed.words) == (True, ["a", "b", "-r"])


@pytest.mark.parametrize(
    ("command", "argv", "text"),
    [
        (COMMAND, ["--bad"], "flux-ping: unrecognized option '--bad'\nTry `flux-ping --help' for more information."),
        (COMMAND, ["--bad=1"], "flux-ping: unrecognized option '--bad'\nTry `flux-ping --help' for more information."),
        (COMMAND, ["-fz"], "flux-ping: unrecognized option '-z'\nTry `flux-ping --help' for more information."),
        (COMMAND, ["-r"], "flux-ping: '-r' missing argument"),
        (COMMAND, ["--rank"], "flux-ping: '--rank' missing argument"),
        (
            BUILTIN,
            ["--x", "a"],
            "flux getattr: unrecognized option '--x'\nTry `flux getattr --help' for more information.",
        ),
        (
            PARENT,
            ["pub", "-z"],
            "flux-event pub: unrecognized option '-z'\nTry `flux-event pub --help' for more information.",
        ),
    ],
)
def test_wrong_options_are_named(command: Command, argv: list[str], text: str) -> None:
    with pytest.raises(UsageError) as info:
        command.parse(argv)
    assert (info.value.text, info.value.status) == (text, 1)


@pytest.mark.parametrize(
    ("argv", "names"), [(["--r", "1"], "--rank, --reconnect"), (["--force=1"], "option '--force' takes no argument")]
)
def test_errors_say_what_would_be_right(argv: list[str], names: str) -> None:
    with pytest.raises(UsageError, match=names):
        COMMAND.parse(argv)


@pytest.mark.parametrize("argv", [[], ["a", "b"]])
def test_a_wrong_number_of_words_shows_the_usage(argv: list[str]) -> None:
    with pytest.raises(UsageError) as info:
        BUILTIN.parse(argv)
    assert (info.value.text, info.value.status) == (BUILTIN.usage(), 1)


def test_help_is_the_usage_and_no_error() -> None:
    with pytest.raises(UsageError) as info:
        COMMAND.parse(["--help", "x"])
    assert (info.value.text, info.value.status) == (COMMAND.usage(), 0)
    with pytest.raises(UsageError) as info:
        PERMUTING.parse(["-h"])
    assert info.value.status == 1


@pytest.mark.parametrize(
    ("argv", "first"), [([], "flux-event: missing subcommand"), (["foo"], "flux-event: Unknown subcommand: foo")]
)
def test_a_subcommand_must_be_named(argv: list[str], first: str) -> None:
    with pytest.raises(UsageError) as info:
        PARENT.parse(argv)
    assert (info.value.text, info.value.status) == (f"{first}\n{PARENT.usage()}", 1)


def test_a_subcommand_parses_what_follows_it() -> None:
    parsed = PARENT.parse(["pub", "-f", "topic"])
    assert (parsed.command.name, parsed.has("force"), parsed.words) == ("event pub", True, ["topic"])


def test_usage_lists_options_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "47")
    command = Command(
        "x",
        "X",
        [
            Option("r", "rank", "Find the target on a broker rank.", "RANK"),
            Option("", "a-rather-long-name", "Help."),
            Option("", "secret", "Hidden.", hidden=True),
        ],
        arguments="TARGET",
    )
    assert command.usage().splitlines() == [
        "Usage: flux-x [OPTIONS] TARGET",
        "  -h, --help             Display this message.",
        "  -r, --rank=RANK        Find the target on a",
        "                         broker rank.",
        "      --a-rather-long-name",
        "                         Help.",
    ]

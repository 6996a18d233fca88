"""flux completion — the completion of a shell, made from the tables of the commands. Fluxlet's own: not in Flux.

    source <(flux completion bash)

Where shells look (`share/` of the wheel) files of a line are installed: they have the command that is there make the
text, when Tab is first pressed, so that it is never that of another version.

Rules:
- What is offered is what `fluxlet.cmd.manual` says: sub-commands, options, words, and kinds of things.
- Names of attributes and modules come from the instance that FLUX_URI names, when they are asked for; without it there
  are none. Nothing is printed and nothing fails.
- A shell that is not running needs nothing of Fluxlet: the texts are complete in themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run, show
from fluxlet.cmd.manual import Entry, Page, driver_page

COMMAND = Command(
    "completion",
    "Print the completion of a shell",
    arguments="bash|zsh|fish",
    words=(1, 1),
    builtin=True,
    complete=("bash|zsh|fish",),
    description="Prints the text that teaches a shell to complete the commands of flux, their options, and names of "
    "attributes and modules of the instance.",
    examples=(
        ('eval "$(flux completion bash)"', "For this bash; in ~/.bashrc for all."),
        ('eval "$(flux completion zsh)"', "For zsh, after compinit."),
        ("flux completion fish > ~/.config/fish/completions/flux.fish", "For fish."),
    ),
    see_also=("help",),
)

_NOTE = "# Completion of flux for {shell}, made by `flux completion {shell}` from the tables of its commands."

#: Commands that print the names of a kind, one a line.
_ASK = {
    "attribute": "flux lsattr",
    "module": "flux module list | awk 'NR > 1 { print $1 }'",
}


def _parts(complete: str) -> tuple[list[str], list[str]]:
    """What is offered, as words and as kinds."""
    parts = [part for part in complete.split("|") if part]
    return [part for part in parts if part[0] != "@"], [part[1:] for part in parts if part[0] == "@"]


def _single(text: str) -> str:
    """A text in single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"


# bash. A table by the words of the command so far; a function that finds the place and looks it up.

_BASH = r"""
_flux_offer() {  # what an argument may be, as a list with | between
    local IFS='|' part
    for part in $1; do
        case $part in
            @attribute) IFS=$'\n' COMPREPLY+=($(compgen -W "$(@ATTRIBUTE@ 2>/dev/null)" -- "$cur")) ;;
            @module) IFS=$'\n' COMPREPLY+=($(compgen -W "$(@MODULE@ 2>/dev/null)" -- "$cur")) ;;
            @command) IFS=$' \n' COMPREPLY+=($(compgen -W "$_flux_names" -- "$cur")) ;;
            @program) IFS=$'\n' COMPREPLY+=($(compgen -c -- "$cur")); compopt -o filenames 2>/dev/null ;;
            @file) IFS=$'\n' COMPREPLY+=($(compgen -f -- "$cur")); compopt -o filenames 2>/dev/null ;;
            @directory) IFS=$'\n' COMPREPLY+=($(compgen -d -- "$cur")); compopt -o filenames 2>/dev/null ;;
            *) [[ $part == "$cur"* ]] && COMPREPLY+=("$part") ;;
        esac
        IFS='|'
    done
}

_flux() {
    local cur=${COMP_WORDS[COMP_CWORD]} path=flux place=0 ended= word i
    local commands options takes arguments endless permute offer
    COMPREPLY=()
    _flux_table "$path"
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ -z $ended && $word == -* && $word != - ]]; then
            if [[ $word == -- ]]; then
                ended=1
            elif [[ ${COMP_WORDS[i + 1]} == = ]]; then
                # bash has taken --name=value apart.
                if ((i + 1 == COMP_CWORD || i + 2 == COMP_CWORD)); then
                    [[ $cur == = ]] && cur=
                    _flux_value "$path $word"
                    _flux_offer "$offer"
                    return
                fi
                ((i += 2))
            elif [[ " $takes " == *" $word "* ]]; then
                if ((i + 1 == COMP_CWORD)); then
                    _flux_value "$path $word"
                    _flux_offer "$offer"
                    return
                fi
                ((i++))
            fi
        elif [[ " $commands " == *" $word "* ]]; then
            path="$path $word"
            _flux_table "$path"
        else
            ((place++))
            [[ -z $permute ]] && ended=1
        fi
    done
    if [[ -z $ended && $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    elif [[ -n $commands ]]; then
        COMPREPLY=($(compgen -W "$commands" -- "$cur"))
    else
        [[ -n $endless ]] && ((place >= ${#arguments[@]})) && ((place = ${#arguments[@]} - 1))
        ((place >= 0)) && _flux_offer "${arguments[place]}"
    fi
    return 0
}

complete -F _flux flux
"""


def bash(top: Page) -> str:
    """The completion for bash 3.2 and later; it does not need the package bash-completion."""
    table = ["_flux_table() {  # what there is behind these words", "    case $1 in"]
    values = ["_flux_value() {  # what the argument of an option may be", "    offer=", "    case $1 in"]
    for page in top.walk():
        names = " ".join(sub.name.rpartition(" ")[2] for sub in page.subcommands)
        options, takes = [], []
        for option in page.options:
            options += [flag + ("=" if option.argument and flag[:2] == "--" else "") for flag in option.flags]
            takes += [flag for flag in option.flags if option.argument and not option.optional]
            if option.complete:
                patterns = " | ".join(_single(f"{page.name} {flag}") for flag in option.flags)
                values.append(f"        {patterns}) offer={_single(option.complete)} ;;")
        arguments = " ".join(_single(part) for part in page.complete)
        table += [
            f"        {_single(page.name)})",
            f"            commands={_single(names)}",
            f"            options={_single(' '.join(options))}",
            f"            takes={_single(' '.join(takes))}",
            f"            arguments=({arguments}) endless={'1' if page.endless else ''} "
            f"permute={'1' if page.permute else ''} ;;",
        ]
    names = " ".join(sub.name.rpartition(" ")[2] for sub in top.subcommands)
    text = _BASH.replace("@ATTRIBUTE@", _ASK["attribute"]).replace("@MODULE@", _ASK["module"])
    return "\n".join(
        [
            _NOTE.format(shell="bash"),
            "",
            f"_flux_names={_single(names)}",
            "",
            *table,
            "    esac",
            "}",
            "",
            *values,
            "    esac",
            "}",
            text.rstrip("\n"),
        ]
    )


# zsh. A function a command, for _arguments.

_ZSH = r"""
_flux_attributes() {
    local -a names
    names=(${(f)"$(@ATTRIBUTE@ 2>/dev/null)"})
    (($#names)) && compadd -a names
}

_flux_modules() {
    local -a names
    names=(${(f)"$(@MODULE@ 2>/dev/null)"})
    (($#names)) && compadd -a names
}
"""


def _zsh_text(text: str) -> str:
    for letter in "\\[]:":
        text = text.replace(letter, "\\" + letter)
    return text


def _zsh_action(complete: str) -> str:
    words, kinds = _parts(complete)
    actions = [f"({' '.join(words)})"] if words else []
    functions = {
        "attribute": "_flux_attributes",
        "module": "_flux_modules",
        "command": "_flux_commands",
        "program": "_command_names -e",
        "file": "_files",
        "directory": "_files -/",
    }
    actions += [functions[kind] for kind in kinds]
    if len(actions) < 2:
        # Nothing to offer. (The action {:} would keep _arguments from completing what comes behind.)
        return "".join(actions) or "( )"
    alternatives = " ".join(f'"{number}:value:{action}"' for number, action in enumerate(actions))
    return f"{{_alternative {alternatives}}}"


def _zsh_option(option: Entry) -> Iterator[str]:
    for flag in option.flags:
        others = " ".join(option.flags)
        spec = f"({others}){flag}"
        if option.argument:
            if flag.startswith("--"):
                spec += "=" if not option.optional else "=-"
            else:
                spec += "+" if not option.optional else "-"
        spec += f"[{_zsh_text(option.help)}]"
        if option.argument:
            spec += f"{':' if not option.optional else '::'}{_zsh_text(option.argument)}:{_zsh_action(option.complete)}"
        yield _single(spec)


def _zsh_function(page: Page) -> str:
    return "_" + page.name.replace(" ", "_").replace("-", "_")


def zsh(top: Page) -> str:
    """The completion for zsh: a file `_flux` in its fpath, or to be evaluated after compinit."""
    functions = []
    for page in top.walk():
        lines = [spec for option in page.options for spec in _zsh_option(option)]
        # Options end at the first argument. (_arguments -A says so too, but then takes an option's own for one.)
        ends = "" if page.permute else "(-)"
        body = [f"{_zsh_function(page)}() {{"]
        if page.subcommands:
            body += ["    local curcontext=$curcontext state line", "    typeset -A opt_args"]
            lines += [f"'{ends}1:command:{_zsh_function(page)}_commands'", f"'{ends}*:: :->rest'"]
        else:
            count = len(page.complete)
            for number, complete in enumerate(page.complete, 1):
                place = "*" if page.endless and number == count else str(number)
                lines.append(_single(f"{ends}{place}: :{_zsh_action(complete)}"))
            if not count and page.endless:
                lines.append(_single(f"{ends}*: :( )"))
        start = "    _arguments -C -s -S" if page.subcommands else "    _arguments -s -S"
        body.append(" \\\n        ".join([start, *lines]))
        if page.subcommands:
            body += ["    [[ $state == rest ]] && case $words[1] in"]
            body += [f"        {sub.name.rpartition(' ')[2]}) {_zsh_function(sub)} ;;" for sub in page.subcommands]
            body += ["    esac"]
        functions.append("\n".join([*body, "}"]))
        if page.subcommands:
            described = [
                _single(f"{sub.name.rpartition(' ')[2]}:{sub.summary.replace(':', ' -')}") for sub in page.subcommands
            ]
            listed = "\n        ".join(described)
            functions.append(
                f"{_zsh_function(page)}_commands() {{\n    local -a names\n    names=(\n        {listed}\n    )\n"
                "    _describe -t commands command names\n}"
            )
    text = _ZSH.replace("@ATTRIBUTE@", _ASK["attribute"]).replace("@MODULE@", _ASK["module"])
    # Called by the completion system it is the body of the function _flux; evaluated it has to register that.
    last = 'if [[ $funcstack[1] == _flux ]]; then\n    _flux "$@"\nelse\n    compdef _flux flux\nfi'
    return "\n\n".join(["#compdef flux\n" + _NOTE.format(shell="zsh"), text.strip("\n"), *functions, last])


# fish. Conditions by the place that a function finds.

_FISH = r"""
function __flux_path --description 'The words of the command so far, and behind a / the number of arguments'
    set -l path flux
    set -l place 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if string match -q -- '-?*' $word
            __flux_takes "$path $word"; and set skip 1
        else if test $place = 0; and contains -- "$path $word" $__flux_pages
            set path "$path $word"
        else
            set place (math $place + 1)
        end
    end
    echo "$path/$place"
end

function __flux_at --description 'Whether this is the command, at any or at this argument, or at one behind it'
    set -l found (string split / -- (__flux_path))
    test "$found[1]" = "$argv[1]"; or return 1
    set -q argv[2]; or return 0
    test $found[2] = $argv[2]; and return 0
    set -q argv[3]; and test $found[2] -gt $argv[2]
end
"""


def _fish_offer(complete: str) -> list[str]:
    """The options of `complete` that offer this."""
    words, kinds = _parts(complete)
    offers = [*words]
    asked = [kind for kind in kinds if kind in ("attribute", "module")]
    offers += [f"({_ASK[kind]} 2>/dev/null)" for kind in asked]
    if "command" in kinds:
        offers.append("$__flux_names")
    if "program" in kinds:
        offers.append("(__fish_complete_command)")
    if "directory" in kinds:
        offers.append("(__fish_complete_directories)")
    found = [] if "file" in kinds else ["-f"]
    if "file" in kinds:
        found.append("-F")
    if offers:
        quoted = " ".join(offers).replace("\\", "\\\\").replace("'", "\\'")
        found.append(f"-a '{quoted}'")
    return found


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish(top: Page) -> str:
    """The completion for fish 3.1 and later."""
    takes, lines = [], []
    for page in top.walk():
        at = f"__flux_at {_fish(page.name)}".replace("'", '"')
        for option in page.options:
            words = [f"complete -c flux -n '{at}'"]
            words += [f"-l {flag[2:]}" if flag[:2] == "--" else f"-s {flag[1:]}" for flag in option.flags]
            if option.argument and not option.optional:
                words += ["-r"]
                takes += [_fish(f"{page.name} {flag}") for flag in option.flags]
            if option.argument:
                words += _fish_offer(option.complete)
            lines.append(" ".join([*words, "-d", _fish(option.help)]))
        for sub in page.subcommands:
            name = sub.name.rpartition(" ")[2]
            lines.append(f"complete -c flux -n '{at} 0' -f -a {name} -d {_fish(sub.summary)}")
        if not page.subcommands:
            for place, complete in enumerate(page.complete):
                further = " more" if page.endless and place == len(page.complete) - 1 else ""
                lines.append(" ".join([f"complete -c flux -n '{at} {place}{further}'", *_fish_offer(complete)]))
    pages = " ".join(_fish(page.name) for page in top.walk())
    names = " ".join(sub.name.rpartition(" ")[2] for sub in top.subcommands)
    return "\n".join(
        [
            _NOTE.format(shell="fish"),
            "",
            f"set -g __flux_names {names}",
            f"set -g __flux_pages {pages}",
            f"set -g __flux_taking {' '.join(takes)}",
            "",
            "function __flux_takes --description 'Whether the next word belongs to this option'",
            "    contains -- $argv[1] $__flux_taking",
            "end",
            _FISH.rstrip("\n"),
            "",
            "complete -c flux -e",
            "complete -c flux -f",
            *lines,
        ]
    )


#: Shell: what makes its text.
SHELLS: dict[str, Callable[[Page], str]] = {"bash": bash, "zsh": zsh, "fish": fish}

#: Shell: its file below `share/`.
INSTALLED = {
    "bash": "bash-completion/completions/flux",
    "zsh": "zsh/site-functions/_flux",
    "fish": "fish/vendor_completions.d/flux.fish",
}


def text_for(shell: str) -> str:
    """The completion of a shell. Raises KeyError for one that is not known."""
    return SHELLS[shell](driver_page())


def _body(parsed: Parsed) -> int:
    shell = parsed.words[0]
    if shell not in SHELLS:
        raise Failure(f"{shell}: the shells are {', '.join(SHELLS)}")
    show(text_for(shell))
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)

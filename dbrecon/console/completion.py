"""Completion by the shell: of options, experiments, states, counties, hosts and files.

The shell's function, which ``--completion SHELL`` prints, starts the program with the words that are typed so far in COMP_WORDS,
the number of the one to complete in COMP_CWORD, and COMPLETION_VARIABLE set; a line comes back for each completion: kind, value,
help, with tabs between. Whatever cannot be known (no database, say) completes to nothing: nobody reads errors there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from dbrecon.console.commands import open_ledger
from dbrecon.console.parser import COMPLETION_VARIABLE as VARIABLE
from dbrecon.console.parser import Parser
from dbrecon.errors import DBReconError
from dbrecon.ledger.ledger import Ledger
from dbrecon.settings import Config
from dbrecon.states import STATES

PROGRAMS = (
    "dbrtool.py", "dbrtool", "scheduler.py", "scheduler", "s0_download_data.py", "s1_make_geo_files.py", "s2_pandas_build_csv.py",
    "s3_pandas_synth_lp_files.py", "s4_run_gurobi.py", "s5_make_microdata.py", "s6_certainty.py",
)  # fmt: skip

BASH = """_dbrecon_complete() {
    local kind value help
    COMPREPLY=()
    while IFS=$'\\t' read -r kind value help; do
        if [ "$kind" = file ]; then
            compopt -o default
        else
            COMPREPLY+=("$value")
        fi
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD VARIABLE=1 "$1" 2>/dev/null)
}
complete -F _dbrecon_complete PROGRAMS
"""

ZSH = """_dbrecon_complete() {
    local line
    local -a fields found
    for line in "${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) VARIABLE=1 ${~words[1]} 2>/dev/null)}"; do
        fields=("${(@ps:\\t:)line}")
        if [[ $fields[1] == file ]]; then
            _files
        elif [[ -n $fields[2] ]]; then
            found+=("${fields[2]//:/\\\\:}${fields[3]:+:$fields[3]}")
        fi
    done
    (( $#found )) && _describe -V completions found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _dbrecon_complete PROGRAMS
"""

FISH = """function _dbrecon_complete
    set -l typed (commandline -opc) (commandline -ct)
    set -l at (count (commandline -opc))
    for line in (env COMP_WORDS="$typed" COMP_CWORD=$at VARIABLE=1 $typed[1] 2>/dev/null)
        set -l fields (string split \\t -- $line)
        if test "$fields[1]" = file
            __fish_complete_path (commandline -ct)
        else
            printf '%s\\t%s\\n' $fields[2] $fields[3]
        end
    end
end
for program in PROGRAMS
    complete --command $program --no-files --arguments '(_dbrecon_complete)'
end
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str) -> str:
    """Return what a shell is to evaluate so that it completes the words of all our programs."""
    return SCRIPTS[shell].replace("VARIABLE", VARIABLE).replace("PROGRAMS", " ".join(PROGRAMS))


def complete(parser: Parser) -> int:
    """Print the completions of what is typed so far."""
    typed, at = split_arg_string(os.environ.get("COMP_WORDS", "")), os.environ.get("COMP_CWORD", "")
    number = int(at) if at.isdecimal() else len(typed)
    before, incomplete = typed[1:number], typed[number] if number < len(typed) else ""
    for item in ShellComplete(parser, {}, parser.prog, VARIABLE).get_completions(before, incomplete):
        sys.stdout.write(f"{item.type}\t{item.value}\t{' '.join((item.help or '').split())}\n")
    return 0


# -- values -------------------------------------------------------------------------------------------------------------


def _ledger() -> Ledger:
    return open_ledger(Config.load(), make=False)


def _states(_ctx: click.Context) -> Iterator[str]:
    yield from (*STATES, "all")


def _reidents(_ctx: click.Context) -> Iterator[str]:
    yield from (row.reident for row in _ledger().experiments())


def _counties(ctx: click.Context) -> Iterator[str]:
    """Yield those of the state that is named, as an option or as a word."""
    words = [*(ctx.params.get("stusab") or ()), *(ctx.params.get("words") or ())]
    reident = ctx.params.get("reident")
    if reident and words:
        yield from _ledger().counties(reident, words[0].lower())


def _tables(_ctx: click.Context) -> Iterator[str]:
    """Complete the two words; lists of tables are the products' own."""
    yield from ("all", "block")


def _nodes(_ctx: click.Context) -> Iterator[str]:
    from dbrecon.fleet.hosts import list_hosts

    yield from (host.name for host in list_hosts(Config.load()))


def _hosts(_ctx: click.Context) -> Iterator[str]:
    """Yield those that were heard of."""
    yield from (entry.load.host for entry in _ledger().sysload())


def _values(known: Callable[[click.Context], Iterator[str]]) -> Callable[[click.Context, str], list[CompletionItem]]:
    """Return what completes the last word of a list with commas."""

    def values(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        try:
            return [CompletionItem(f"{before}{comma}{value}") for value in known(ctx) if value.startswith(last)]
        except DBReconError:
            return []

    return values


def _file(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _word(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return a word of a place: first a state, then a county."""
    return (VALUES["county"] if ctx.params.get("words") else VALUES["stusab"])(ctx, incomplete)


VALUES: dict[str, Callable[[click.Context, str], list[CompletionItem]]] = {
    "reident": _values(_reidents),
    "stusab": _values(_states),
    "county": _values(_counties),
    "node": _values(_nodes),
    "tables": _values(_tables),
    "host": _values(_hosts),
    "file": _file,
    "word": _word,
}
"""What completes the value of an option, by the name that the options use."""

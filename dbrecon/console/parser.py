"""One parser for every command line, on click: the same words mean the same everywhere.

Beside what click does: a long option may be shortened while that stays unambiguous; an option's value may be left out, or be
several words; what cannot be meant (an option given twice, a word too many) is refused rather than dropped; help has three
levels: an overview, a group, all. An error is a UsageError, one sentence.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import click

from dbrecon.ctools import cli
from dbrecon.errors import UsageError
from dbrecon.paths import as_typed
from dbrecon.remedies import sentence
from dbrecon.states import check_stusab

WIDTH = 120
"""Help is not set wider than this many characters."""

ALL = "all"
"""What ``--help`` takes for everything."""

COMPLETION_VARIABLE = "_DBRECON_COMPLETE"
"""Set in the environment by a shell that asks what a word could be (``dbrecon.console.completion``)."""

PLACE_WORDS = "STUSAB [COUNTY [TRACT,...]]"


class Arguments(SimpleNamespace):
    """What a command line has said, an attribute an option.

    ``stusab`` has the states' two letters with commas (or "all"), ``county`` three digits, ``tract`` six digits each with commas,
    whether they came as options or as words; None where nothing was said.
    """


def completing(name: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """Return what completes a value (one of ``completion.VALUES``), loaded when somebody presses the key."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Any:
        from dbrecon.console import completion

        return completion.VALUES[name](ctx, incomplete)

    return complete


class Option(click.Option):
    """An option of a group. ``optional``: what it is where its value is left out; ``several``: it takes any number of words;
    ``only``: the values that there are, so that another word after it is none."""

    def __init__(
        self, *names: str, optional: object = None, several: bool = False, only: Sequence[str] = (), **settings: Any
    ) -> None:
        """Take ``settings`` as click does."""
        super().__init__(names, **(settings | {"type": click.Choice(only)} if only else settings))
        self.optional, self.several, self.only = optional, several, tuple(only)

    @property
    def long(self) -> str:
        """Its long spelling."""
        return max(self.opts, key=len)

    @property
    def takes_value(self) -> bool:
        """Whether anything may follow it."""
        return not self.is_flag

    def may_be(self, word: str) -> bool:
        """Whether a word that follows it is its value."""
        return not _is_option(word) and (not self.only or word in self.only)

    def shown(self) -> str:
        """As help has it: "-f, --follow", "--errors [N]", "--evaluate [FILE ...]"."""
        names = ", ".join(sorted(self.opts, key=len))
        if not self.takes_value:
            return names
        value = f"{self.metavar} ..." if self.several else str(self.metavar)
        return f"{names} {value if self.optional is None else f'[{value}]'}"


def flag(*names: str, help: str) -> Option:
    """Return an option without a value."""
    return Option(*names, is_flag=True, default=False, help=help)


@dataclass(frozen=True)
class Group:
    """Options that help shows together: ``name`` is the word for ``--help NAME``, ``title`` its heading."""

    name: str
    title: str
    options: tuple[Option, ...]


class Checked(click.ParamType[Any]):
    """A value that a function of text checks and converts; it raises UsageError."""

    def __init__(self, name: str, convert: Callable[[str], Any]) -> None:
        """``name`` is what help calls it."""
        self.name, self._convert = name, convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value; click's BadParameter with the sentence."""
        if not isinstance(value, str):
            return value
        try:
            return self._convert(value)
        except UsageError as error:
            self.fail(sentence(error), param, ctx)


def _positive(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise UsageError(f"{text!r} is not a number of 1 or more")
    return int(text)


POSITIVE = Checked("N", _positive)
"""A number of 1 or more."""


class Parser(click.Command):
    """The command line of one program: its groups of options, and the words of a place where it takes any."""

    def __init__(
        self, prog: str, usage: str, description: str, groups: Sequence[Group], epilog: str = "", words: str | None = PLACE_WORDS
    ) -> None:
        """``prog`` is what is typed; ``words`` is what help calls the words beside the options, None if there are to be none."""
        about = Group(
            "help",
            "help",
            (
                Option(
                    "-h", "--help", optional="", metavar="GROUP", expose_value=False, is_eager=True, callback=self._show_help,
                    help=f"an overview; one group, or {ALL}: {', '.join(group.name for group in groups)}",
                ),
            ),
        )  # fmt: skip
        self.groups, self.prog, self.usage = (*groups, about), as_typed(prog), as_typed(usage)
        params: list[click.Parameter] = [option for group in self.groups for option in group.options]
        if words is not None:
            params.append(click.Argument(["words"], nargs=-1, metavar=words, shell_complete=completing("word")))
        super().__init__(self.prog, params=params, help=description, epilog=as_typed(epilog), add_help_option=False)
        self._options = {name: option for option in params if isinstance(option, Option) for name in option.opts}

    def read(self, words: Sequence[str]) -> Arguments:
        """Return the arguments of a command line. Raises UsageError; SystemExit after --help."""
        if "--debug" in words:
            cli.show_tracebacks()
        try:
            with self.make_context(self.prog, list(words)) as context:
                return settle_place(Arguments(**context.params))
        except click.exceptions.Exit as done:
            raise SystemExit(done.exit_code) from None
        except click.BadParameter as error:
            name = error.param.long if isinstance(error.param, Option) else ""
            raise UsageError(f"{name}{': ' if name else ''}{error.message.rstrip('.')} (see {self.prog} --help)") from None
        except click.ClickException as error:
            raise UsageError(f"{error.message.rstrip('.')} (see {self.prog} --help)") from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, of the command line in full spelling."""
        if ctx.resilient_parsing:  # for completion: what is half typed is no error
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, self._in_full(args))

    # -- words --------------------------------------------------------------------------------------------------------

    def _in_full(self, args: Sequence[str]) -> list[str]:
        """Return every long option by its whole name and with its value behind an equals sign."""
        found: list[str] = []
        given: dict[str, str] = {}
        rest = list(args)
        while rest:
            word = rest.pop(0)
            if word == "--":
                return [*found, word, *rest]
            name, equals, value = word.partition("=")
            if word == "-h":
                name = "--help"
            elif not word.startswith("--"):
                found.append(word)
                continue
            option = self._option(name)
            values = self._values(option, rest, [value] if equals else [])
            if not option.takes_value:
                found.append(option.long)
            for text in values:
                if not option.multiple and given.setdefault(option.long, text) != text:
                    both = " and ".join(value or "without a value" for value in (given[option.long], text))
                    raise UsageError(f"{option.long} is given twice: {both} (see {self.prog} --help)")
                found.append(f"{option.long}={text}")
        return found

    def _option(self, name: str) -> Option:
        """Return the option of that name or of the only one that begins so."""
        if name in self._options:
            return self._options[name]
        fitting = sorted(known for known in self._options if known.startswith(name))
        if len(fitting) == 1:
            return self._options[fitting[0]]
        if fitting:
            raise UsageError(f"ambiguous option: {name} could match {', '.join(fitting)} (see {self.prog} --help)")
        near = difflib.get_close_matches(name, [known for known in self._options if known.startswith("--")], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unrecognized arguments: {name} ({hint}see {self.prog} --help)")

    def _values(self, option: Option, rest: list[str], values: list[str]) -> list[str]:
        """Return the option's values; those that follow it are taken from ``rest``."""
        if not option.takes_value:
            if values:
                raise UsageError(f"{option.long} takes no value: leave ={values[0]} out (see {self.prog} --help)")
            return []
        if not values:
            while rest and option.may_be(rest[0]) and (option.several or not values):
                values.append(rest.pop(0))
        if not values and option.optional is None:
            raise UsageError(f"{option.long} needs a value: {option.shown()} (see {self.prog} --help)")
        return values or [str(option.optional)]

    # -- help ---------------------------------------------------------------------------------------------------------

    def _show_help(self, ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is None or ctx.resilient_parsing:
            return
        click.echo(self.overview() if value == "" else self.get_help(ctx) if value.lstrip("-") == ALL else self.group_help(value))
        ctx.exit()

    def overview(self) -> str:
        """Return a screen: usage, what it is, the names of each group's options, examples."""
        formatter = _formatter()
        formatter.write(f"usage: {self.usage}\n\n{self.help}\n\noptions (--help GROUP: what they do; --help {ALL}: everything):\n")
        with formatter.indentation():
            formatter.write_dl([(group.name, " ".join(option.long for option in group.options)) for group in self.groups])
        examples = [part for part in (self.epilog or "").strip().split("\n\n") if part.startswith("examples")]
        return "\n".join([formatter.getvalue(), *examples]).rstrip()

    def group_help(self, name: str) -> str:
        """Return the options of one group, by its name, a beginning of it, or one of its options. UsageError for others."""
        word = name.lstrip("-").lower()
        fitting = [group for group in self.groups if group.name == word] or [
            group for group in self.groups if group.name.startswith(word)
        ]
        fitting = fitting or [group for group in self.groups if any(f"--{word}" in option.opts for option in group.options)]
        if len(fitting) != 1:
            raise UsageError(f"--help {name}: the groups are {', '.join(group.name for group in self.groups)}; or {ALL}")
        formatter = _formatter()
        _write_group(formatter, fitting[0])
        return formatter.getvalue().strip("\n")

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """All of it: usage, what it is, groups, examples."""
        formatter.width = _formatter().width
        formatter.write(f"usage: {self.usage}\n\n{self.help}\n")
        for group in self.groups:
            _write_group(formatter, group)
        if self.epilog:
            formatter.write(f"\n{self.epilog}")


def _is_option(word: str) -> bool:
    """Return whether a word cannot be an option's value. A negative number can: its option then says what it takes."""
    return word.startswith("-") and word != "-" and not re.fullmatch(r"-[0-9.]+", word)


def _formatter() -> click.HelpFormatter:
    return click.HelpFormatter(width=min(WIDTH, shutil.get_terminal_size().columns - 2))


def _write_group(formatter: click.HelpFormatter, group: Group) -> None:
    formatter.write(f"\n{group.title}:\n")
    with formatter.indentation():
        formatter.write_dl([(option.shown(), as_typed(option.help or "")) for option in group.options], col_max=26)


# -- the words of a place -----------------------------------------------------------------------------------------------


def settle_place(arguments: Arguments) -> Arguments:
    """One spelling of the place, from ``--stusab``, ``--county``, ``--tract`` and the words. Raises UsageError for what is said
    twice in different ways, and for a word that is none of a place."""
    said = vars(arguments)
    states, county, tracts = _place_words(said.pop("words", ()))
    if "stusab" not in said:
        return arguments
    states = list(dict.fromkeys([*(word.lower() for given in said["stusab"] for word in split(given)), *states]))
    if "all" in states and len(states) > 1:
        raise UsageError(f"{', '.join(states)}: name states, or all")
    arguments.stusab = ",".join(word if word == "all" else check_stusab(word) for word in states) or None
    arguments.county = _same("county", three_digits(said.get("county")), three_digits(county))
    both = [",".join(words) for words in (split(",".join(said.get("tract") or ())), tracts) if words]
    arguments.tract = _same("tract", both[0] if both else None, both[-1] if both else None)
    return arguments


def split(text: str | None) -> list[str]:
    """Return the words of a list with commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def three_digits(county: str | None) -> str | None:
    """Return a county's code with the zeros that were left out: 59 is 059."""
    return county.zfill(3) if county and re.fullmatch("[0-9]{1,2}", county) else county


def _place_words(words: Iterable[str]) -> tuple[list[str], str | None, list[str]]:
    """Return states, county and tracts among words in that order."""
    states: list[str] = []
    county, tracts = None, list[str]()
    for word in words:
        if re.fullmatch("[0-9]{1,3}", word) and states and county is None and not tracts:
            county = word
        elif re.fullmatch("[0-9]{6}(,[0-9]{6})*", word) and county is not None and not tracts:
            tracts = split(word)
        elif re.search("[^0-9,]", word) and county is None:
            states += [part.lower() for part in split(word)]
        else:
            raise UsageError(f"{word!r} is a word too many: a place is {PLACE_WORDS}, as in oh 059 977100,977200")
    return states, county, tracts


def _same(what: str, first: str | None, second: str | None) -> str | None:
    if first is not None and second is not None and first != second:
        raise UsageError(f"the {what} is named twice: {first} and {second}")
    return first if first is not None else second


def without(arguments: Arguments, names: Mapping[str, str]) -> None:
    """Raise UsageError for options that have no meaning here: ``names`` has the reason for each."""
    for name, reason in names.items():
        if getattr(arguments, name, None) not in (None, False, ()):
            raise UsageError(reason)

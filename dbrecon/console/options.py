"""What the commands ask of the command line alike."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dbrecon.settings import Config


@dataclass(frozen=True)
class Action:
    """What an option does. ``takes_place``: whether --stusab, --county and --tract mean something for it."""

    run: Callable[[argparse.Namespace, Config], int]
    takes_place: bool = True


Actions = Mapping[str, Action]


def positive(text: str) -> int:
    """A number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def states_asked(args: argparse.Namespace) -> list[str]:
    """The words of --stusab."""
    return [word.strip() for word in (args.stusab or "").split(",") if word.strip()]

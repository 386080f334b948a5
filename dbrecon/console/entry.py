"""How every one of our programs begins: its command line is read, or completed for a shell, and then does its work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import dbrecon
from dbrecon import remedies
from dbrecon.console.parser import COMPLETION_VARIABLE, Arguments, Parser
from dbrecon.ctools import cli


def start_program(parser: Parser, work: Callable[[Arguments], int]) -> int:
    """Read the command line and do what it asks for; the exit code. Raises UsageError for one that is wrong."""
    if COMPLETION_VARIABLE in os.environ:
        from dbrecon.console.completion import complete

        return complete(parser)
    arguments = parser.read(sys.argv[1:])
    if arguments.version:
        print(f"{parser.prog} {dbrecon.__version__} (Python {sys.version.partition(' ')[0]})")
        return 0
    if arguments.completion:
        from dbrecon.console.completion import script

        sys.stdout.write(script(arguments.completion))
        return 0
    cli.start(arguments.debug or arguments.verbose, arguments.quiet)
    return work(arguments)


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a command line, and leave the process with its exit code."""
    cli.run_command(main, remedies.sentence)

"""The options of these scripts about how much they say."""

import argparse

from dbrecon.ctools import cli


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add --debug, --verbose and --quiet. After parsing, hand the arguments to ``start``."""
    group = parser.add_argument_group("talk (on stderr; results go to stdout)")
    group.add_argument("--debug", action="store_true", help="log everything, and show where an error came from")
    group.add_argument("-v", "--verbose", action="store_true", help="log what is done in detail")
    group.add_argument("-q", "--quiet", action="store_true", help="log warnings and errors only")


def start(args: argparse.Namespace) -> None:
    """Set logging up as the options of ``add_common`` say."""
    if args.debug:
        cli.show_tracebacks()
    cli.start(args.debug or args.verbose, args.quiet)

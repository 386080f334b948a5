"""The dashboard: the web page that shows how every reconstruction stands."""

import argparse

from dbrecon.console.options import Action, Actions
from dbrecon.ctools.extras import extra
from dbrecon.errors import UsageError
from dbrecon.settings import Config

LOOPBACK = "127.0.0.1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this module's actions."""
    group = parser.add_argument_group("dashboard")
    group.add_argument("--dashboard", action="store_true", help="serve the web page of all experiments, until Ctrl-C")
    group.add_argument("--port", type=_port, metavar="N", help="its TCP port (default: [dashboard] port; 0: any free one)")
    group.add_argument("--host", metavar="H", default=LOOPBACK, help="the address it listens on (default: %(default)s)")


def check_options(args: argparse.Namespace, action: str) -> None:
    """UsageError for the dashboard's options without it."""
    if action != "dashboard" and (args.port is not None or args.host != LOOPBACK):
        raise UsageError("--port and --host go with --dashboard")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def serve_dashboard(args: argparse.Namespace, config: Config) -> int:
    """Serve the dashboard until Ctrl-C or SIGTERM."""
    with extra("dashboard"):
        from dbrecon.dashboard.server import serve  # the web server is loaded for this command alone

    return serve(config, args.host, config.dashboard.port if args.port is None else args.port)


ACTIONS: Actions = {"dashboard": Action(serve_dashboard, takes_place=False)}

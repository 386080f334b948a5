"""The dashboard: the web page that shows how every reconstruction stands."""

from dbrecon.console.options import LOOPBACK
from dbrecon.console.parser import Arguments
from dbrecon.ctools.extras import extra
from dbrecon.settings import Config


def serve_dashboard(args: Arguments, config: Config) -> int:
    """Serve the dashboard until Ctrl-C or SIGTERM."""
    with extra("dashboard"):
        from dbrecon.dashboard.server import serve  # the web server is loaded for this command alone

    return serve(config, args.host or LOOPBACK, config.dashboard.port if args.port is None else args.port)

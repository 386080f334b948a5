"""Serving the dashboard from this machine, with waitress."""

import logging
import signal
from types import FrameType
from typing import NoReturn

from waitress.server import create_server

from dbrecon.ctools.signals import when_safe
from dbrecon.dashboard.access import Access, check_host
from dbrecon.dashboard.app import create_app
from dbrecon.errors import UsageError
from dbrecon.settings import Config

log = logging.getLogger(__name__)

THREADS = 16
VIEWERS = 1000


def serve(config: Config, host: str, port: int) -> int:
    """Serve until Ctrl-C or SIGTERM; 0. Prints the page's address. UsageError where it cannot listen there."""
    check_host(host, Access.of(config).token)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a short queue is no news
    app = create_app(config)
    try:
        server = create_server(app, host=host, port=port, threads=THREADS, connection_limit=VIEWERS, ident=None)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{host} port {port}"
        raise UsageError(f"the dashboard cannot listen on {where} ({reason}): choose another --port or --host") from None
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{server.effective_port}/re-recon.html", flush=True)
    signal.signal(signal.SIGTERM, when_safe(_leave))
    server.run()  # returns at KeyboardInterrupt and SystemExit
    server.close()
    log.info("the dashboard is closed")
    return 0


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)

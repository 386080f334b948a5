"""To be imported first by a script of the top level or of bench/: starts it again with .venv's interpreter where the one at hand
lacks packages.

An operator types ./dbrtool.py and cron runs scheduler.py; neither has activated the virtual environment that `make setup`
makes. Nothing but the standard library is used here, and the process is the same where the packages are there.

Until the program has begun (``ctools.cli.run_command``), Ctrl-C ends it without a word: a traceback from the middle of an import
tells nobody anything.
"""

import importlib.util
import os
import signal
import sys

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = ("click", "highspy", "isal", "numpy", "paramiko", "pyarrow", "pymysql", "scipy", "smart_open", "sqlalchemy", "tqdm")


def _is_script_of_ours() -> bool:
    """Return whether the program is a script beside this package or in bench/, rather than a test runner or another's program."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    home = os.path.realpath(HOME)
    return path is not None and os.path.dirname(os.path.realpath(path)) in (home, os.path.join(home, "bench"))


def enter() -> None:
    """Replace this process by the same command under .venv, or leave with a sentence, if a package is missing."""
    if not _is_script_of_ours():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return
    venv = os.path.join(HOME, ".venv")
    python = os.path.join(venv, "bin", "python")
    if os.access(python, os.X_OK) and os.path.realpath(sys.prefix) != os.path.realpath(venv):
        os.execv(python, [python, *sys.orig_argv[1:]])
    sys.exit(f"error: {sys.executable} lacks {', '.join(missing)}: run `make setup` in {HOME}, which makes .venv with all packages")


enter()

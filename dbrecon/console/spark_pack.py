"""The packing of what Spark's executors need into an archive."""

import os

from dbrecon.console.parser import Arguments
from dbrecon.ctools.progress import counted
from dbrecon.errors import UsageError
from dbrecon.settings import Config


def pack(args: Arguments, _config: Config) -> int:
    """Pack this Python's packages that executors need, with all that they need, into a .tar.gz."""
    from dbrecon.fleet.packing import EXECUTORS_EXTRAS, write_archive

    path = args.spark_pack
    if not path.endswith((".tar.gz", ".tgz")):
        raise UsageError(f"--spark_pack {path}: name a .tar.gz, which Spark unpacks on the executors")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--spark_pack {path}: there is no folder {folder}; make it, or name another place")
    names = write_archive(path, EXECUTORS_EXTRAS)
    holds = f"{counted(len(names), 'package')}, {os.path.getsize(path) / 1e6:,.0f} MB"
    print(f"{path}: {holds}; [spark] environment takes its path or URI")
    return 0

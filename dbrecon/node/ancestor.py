"""What the workers' common ancestor has ready for all of them: the program builder and the age bins of the first task's tables.

The fork server imports this module once, before any worker; :mod:`.machine` names the tables in its environment. A worker with
other tables derives its own.
"""

import contextlib
import json
import os

from dbrecon.errors import DBReconError
from dbrecon.steps.methods import binning_of_tables, builder_of_tables

TABLES = "DBRECON_ANCESTOR_TABLES"
"""JSON: the path of the table definitions, which of the tables, and the ages by which programs count."""

if TABLES in os.environ:
    with contextlib.suppress(DBReconError):  # the worker whose task it is meets it too, and says so
        path, tables, ages = json.loads(os.environ[TABLES])
        binning_of_tables(path, tables)
        builder_of_tables(path, tables, ages)

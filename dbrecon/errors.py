"""The errors of this project: one root, and one class for each exit code that an operator's script can act on.

An error's text is one sentence that names the file, unit or value, and what to do. Only a command line turns an error into
text (``dbrecon.ctools.cli.run_command``). Every package may import this module; it imports nothing.
"""


class DBReconError(Exception):
    """Root of everything that this project raises on purpose. ``exit_code`` is what a command line leaves with; ``tells_cause``:
    the text has all that the library's error behind it tells, which need not be printed too."""

    exit_code = 1
    tells_cause = False


class UsageError(DBReconError):
    """An option, a name or a setting that is not right: nothing was done."""

    exit_code = 2


class InputError(DBReconError):
    """Published tables that are missing, damaged, or contradict themselves."""

    exit_code = 3


class ContradictoryTables(InputError):
    """Published tables of which no people can be: trying again cannot help."""


class StorageError(DBReconError):
    """A file or an object that cannot be read or written."""

    exit_code = 4


class DatabaseError(DBReconError):
    """The database is away, refuses, or does not hold what was asked for."""

    exit_code = 5
    tells_cause = True


class SolverError(DBReconError):
    """The solver found no solution: infeasible, out of time, or without a licence."""

    exit_code = 6


class VerificationError(DBReconError):
    """A solution that does not reproduce a published cell."""

    exit_code = 7


class RemoteError(DBReconError):
    """Another machine, or a service of AWS, that cannot be reached, refuses, or fails."""

    exit_code = 8
    tells_cause = True

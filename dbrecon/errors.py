"""The errors of this project: one root, and one class for each exit code that an operator's script can act on.

An error's text is one sentence that names the file, unit or value, and what to do. Only a command line turns an error into
text (``dbrecon.ctools.cli.run_command``). Every package may import this module; it imports nothing of ours.

What recon and ctools raise says only what is wrong: they know no command line and no settings. The error tells what it is
``about``, and ``dbrecon.remedies`` ends the sentence with what to do.
"""

from enum import Enum, auto


class Subject(Enum):
    """What an error is about, where a command or a setting of ours can help."""

    LP_FILE = auto()
    """An LP file of an experiment."""
    SINGLE_LP_FILE = auto()
    """An LP file that belongs to no experiment."""
    LP_DIALECT = auto()
    """An LP file that is written in a way that is not read."""
    SOLUTION = auto()
    OTHER_SOLUTION = auto()
    """A solution that is not the one that the ledger has accepted."""
    LP_AND_SOLUTION = auto()
    """A solution that counts by other bins of ages than its experiment: so does its LP file."""
    COUNTY_FILES = auto()
    GEOFILE = auto()
    PEOPLE = auto()
    TABLES = auto()
    """A state's published tables."""
    CONSTRAINTS = auto()
    """Those of a program that was made elsewhere."""
    CERTAINTY = auto()
    SAMPLES = auto()
    """Those that step 6 draws of a tract."""
    SOLVER = auto()
    """A solver that fails where another may not."""
    ANSWER = auto()
    """A solver's answer that is wrong."""
    SOLVER_TIME = auto()
    GUROBI_PACKAGE = auto()
    GUROBI_LICENCE = auto()
    GUROBI_SIZE = auto()
    GUROBI_TOKEN = auto()
    DATABASE_FILE = auto()
    DATABASE_TLS = auto()
    TLS_AUTHORITY = auto()
    EMR_CLUSTER = auto()
    KMS_KEY = auto()
    S3_KEY = auto()
    ENCRYPTED_FILE = auto()
    SSH_SETTINGS = auto()
    SSH_LOGIN = auto()
    SSH_NEW_HOST = auto()


class DBReconError(Exception):
    """Root of everything that this project raises on purpose. ``exit_code`` is that of a command which ends so; ``tells_cause``:
    the text has all that the library's error behind it tells, which need not be printed too.

    ``about`` is None where the text itself says what to do. ``place``: where, if that is known: "oh", "oh 059", "oh 059 977100".
    """

    exit_code = 1
    tells_cause = False
    about: Subject | None = None
    place = ""

    def __init__(self, *args: object, about: Subject | None = None, place: str = "") -> None:
        super().__init__(*args)
        if about is not None:  # else what the class says, if it does
            self.about, self.place = about, place


class UsageError(DBReconError):
    """An option, a name or a setting that is not right: nothing was done."""

    exit_code = 2


class InputError(DBReconError):
    """Published tables that are missing, damaged, or contradict themselves."""

    exit_code = 3


class ContradictoryTables(InputError):
    """Published tables of which no people can be: trying again cannot help."""

    about = Subject.TABLES


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

"""What Spark's account of a failed job says: which task, why, and whether the set-up is to blame."""

import re

from dbrecon.errors import RemoteError
from dbrecon.node.tasks import Failure
from dbrecon.spark.executor import Trouble


def failed_task(account: str) -> int | None:
    """Return which task of the job was given up, by its index; None if it was no task's fault."""
    found = re.search(r"\b[Tt]ask (\d+) (?:in stage|\(partition)", account)
    return int(found[1]) if found else None


def never_tried(account: str) -> bool:
    """Whether Spark gave a task up because it had excluded all executors for other tasks' failures (spark.excludeOnFailure)."""
    return re.search(r"cannot run anywhere[^\n]*\s+Most recent failure:\s+(null|ExcludeOnFailure behavior)", account) is not None


def cause(account: str) -> str:
    """Return the cause in Spark's account of a failed job, in a line: its last line of a Python traceback, else the first
    sentence."""
    text = account.split("Driver stacktrace:", maxsplit=1)[0].strip()
    last = re.split(r"(?i)most recent failure:\s+", text)[-1]
    lines = [line.strip() for line in re.sub(r"^Lost task \S+ in stage \S+ \(TID \d+\) ", "", last).splitlines() if line.strip()]
    if not lines:
        return "no reason was given"
    errors = [line for line in lines if re.match(r"[\w.]*(?:Error|Exception|Trouble|Exit)\b:", line)]
    return errors[-1] if "Traceback (most recent call last)" in text and errors else lines[0]


def executors_trouble(account: str) -> Failure | None:
    """Return what the executor or the set-up is to blame for; None if it is the task's fault, or Spark's."""
    return Trouble.found_in(account) or set_up_failure(account)


def set_up_failure(account: str) -> Failure | None:
    """Return an exception in the executors' Python outside of any tract: missing packages, another Python's version, or no
    Python."""
    signs = ("Traceback (most recent call last)", "PYTHON_VERSION_MISMATCH", "Cannot run program")
    if not any(sign in account for sign in signs):
        return None
    remedy = "see [spark] python and [spark] environment"
    return Failure(f"executors cannot run the work ({cause(account)}): {remedy}", "", 0, account, RemoteError.exit_code, "setup")

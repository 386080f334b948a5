"""Step 0: download states' zips from the Census Bureau into ``dist/``, and check what lies there.

A zip is fetched under ``{name}.part``, resumed where an earlier run broke off, and gets its name when every member is whole.
No database is needed.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dbrecon.ctools.private_folder import private_folder
from dbrecon.ctools.progress import Progress, counted
from dbrecon.ctools.storage import DeniedFile, MissingFile, NoRegularFile, exists, is_s3, listdir, open_ranges, sopen
from dbrecon.errors import InputError, StorageError, UsageError
from dbrecon.experiment import Experiment
from dbrecon.recon.census.subset import chosen_tables
from dbrecon.recon.census.tables import LEVELS
from dbrecon.recon.product.county_rows import LevelPlan, StateReader
from dbrecon.recon.product.release import StateZip
from dbrecon.remedies import explain, sentence
from dbrecon.states import STATES, check_stusab

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

ATTEMPTS = 6
BLOCK = 1 << 18
MAX_REDIRECTS = 10
CONNECT_SECONDS = 20.0
READ_SECONDS = 60.0

log = logging.getLogger(__name__)


# -- what lies in dist/, also for steps 1 and 2 -------------------------------------------------------------------------


def stusabs_in_dist(experiment: Experiment) -> list[str]:
    """Return the states whose zip is in ``dist/``, sorted."""
    names = set(listdir(experiment.dist))
    return sorted(stusab for stusab in STATES if os.path.basename(experiment.dist_zip(stusab)) in names)


def passed_over(experiment: Experiment) -> dict[str, str]:
    """Return what else lies in ``dist/`` and is no state's zip by its name: for each name a sentence that says what to do."""
    names = sorted(listdir(experiment.dist))
    zips = [os.path.basename(experiment.dist_zip(stusab)) for stusab in STATES]
    expected = {f"{name}{ending}" for name in zips for ending in ("", ".part", ".part.version")}
    others = [name for name in names if name not in expected and not name.startswith(".")]
    return {name: _what_to_rename(experiment, name, names) for name in others}


def _what_to_rename(experiment: Experiment, name: str, names: Sequence[str]) -> str:
    path = f"{experiment.dist}/{name}"
    guess = re.match(r"([a-z]{2})[^a-z]", name.lower())
    stusab = guess[1] if guess and guess[1] in STATES else "ST"
    if stusab == "ST":
        known = [experiment.release.zip_of(example) for example in ("ST", "ri")]
        return f"{path}: not read: a state's zip has the name {known[0]}, such as {known[1]}"
    wanted = experiment.release.zip_of(stusab)
    if wanted in names:
        return f"{path}: not read, for {wanted} lies beside it; remove the one that is not wanted"
    if not name.lower().endswith(".zip"):
        return f"{path}: not read: zip the files of {STATES[stusab].name} into {wanted}"
    return f"{path}: not read: if it is the zip of {STATES[stusab].name}, rename it to {wanted}"


def _misnamed(experiment: Experiment, stusab: str) -> str:
    """Return the sentence on a file in ``dist/`` that may be the state's zip under another name, after a semicolon; or nothing."""
    wanted = os.path.basename(experiment.dist_zip(stusab))
    found = [what for what in passed_over(experiment).values() if what.endswith(f" {wanted}")]
    return f"; {found[0]}" if found else ""


@contextlib.contextmanager
def open_zip(experiment: Experiment, stusab: str) -> Iterator[StateZip]:
    """Yield the state's zip, for a ``with`` block; of one on S3 what is read is fetched, once, into a temporary file.

    Raises InputError if there is none or it is no zip.
    """
    path = experiment.dist_zip(stusab)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_ranges(path))
        except MissingFile:
            there_is_none = f"{path}: there is no zip of {STATES[stusab].name}"
            remedy = _misnamed(experiment, stusab) or "; run step 0 (s0_download_data.py) or put it there"
            raise InputError(there_is_none + remedy) from None
        yield StateZip(file, experiment.release, stusab, path)


def state_reader(experiment: Experiment, archive: StateZip) -> StateReader:
    """Return what reads the experiment's tables out of a zip."""
    release = experiment.release
    chosen = chosen_tables(experiment.tables, [(table.name, table.level) for table in release.tables])
    used = [table for table in release.tables if table.name in chosen]
    block, tract = (LevelPlan([table for table in used if table.level == level], release) for level in LEVELS)
    return StateReader(archive, block, tract)


def asked_states(experiment: Experiment, words: Sequence[str], warn: bool = True) -> list[str]:
    """Return the states that a command line names; ``all`` (and none) is every state whose zip is in ``dist/``.

    ``warn``: other files that lie there are named in the log.

    Raises UsageError for an unknown state, InputError if ``all`` finds no zip.
    """
    stusabs = [check_stusab(word) for word in words if word != "all"]
    if stusabs and "all" not in words:
        return list(dict.fromkeys(stusabs))
    found, others = stusabs_in_dist(experiment), list(passed_over(experiment).values())
    if not found:
        remedy = "; ".join(others) or "run step 0 (s0_download_data.py) or put one there"
        raise InputError(f"{experiment.dist}: there is no zip of any state; {remedy}")
    for other in others if warn else ():
        log.warning("%s", other)
    return found


OF_A_ZIP = (InputError, DeniedFile, NoRegularFile)
"""What says something of one state's zip, and nothing of the others'."""


def each_state(stusabs: Sequence[str], *steps: Callable[[str], str]) -> None:
    """Do the steps, each for all states before the next, and print what each returns.

    A state whose data are bad does not stop the others. At the end InputError names those that failed (if only one state
    was asked for, it is the state's own error).
    """
    failed: list[str] = []
    for work in steps:
        for stusab in stusabs:
            if stusab in failed:
                continue
            try:
                print(work(stusab), flush=True)
            except OF_A_ZIP as error:
                if len(stusabs) == 1:
                    raise
                log.error("%s: %s", stusab, explain(error))
                failed.append(stusab)
    if failed:
        number = f"{len(failed)} of {counted(len(stusabs), 'state')}"
        raise InputError(f"{number} failed, for the reasons given above: {', '.join(failed)}")


# -- checking -----------------------------------------------------------------------------------------------------------


def validate(experiment: Experiment, stusabs: Sequence[str]) -> dict[str, list[str]]:
    """For each state what is wrong with its zip in ``dist/``, a sentence each; nothing if it is whole."""
    return {stusab: _faults_in_dist(experiment, stusab) for stusab in stusabs}


def _faults_in_dist(experiment: Experiment, stusab: str) -> list[str]:
    try:
        with open_zip(experiment, stusab) as archive:
            return zip_faults(experiment, archive)
    except OF_A_ZIP as error:
        return [sentence(error)]


def zip_faults(experiment: Experiment, archive: StateZip) -> list[str]:
    """Return what is wrong with an open zip: members that the tables need and that are not there, members that are damaged."""
    try:
        archive.require(state_reader(experiment, archive).members)
    except InputError as error:
        return [sentence(error), *archive.faults()]
    return archive.faults()


# -- downloading --------------------------------------------------------------------------------------------------------


class _Refused(StorageError):
    """What no repetition changes; the text has the reason."""

    tells_cause = True


class _Again(Exception):
    """A transfer broke off, for a reason that may pass."""


class Partial:
    """The unfinished file of a download: its bytes, and beside it the server's mark of the version they are of.

    Only one process at a time has it. Kept when a download breaks off, so that the next run goes on where it ended.
    """

    def __init__(self, path: str) -> None:
        """Raise StorageError if it cannot be written, UsageError if another process downloads into it."""
        self.path = path
        self._mark = f"{path}.version"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise StorageError(f"{path} cannot be written ({error.strerror}); correct the root or its rights") from error
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise UsageError(f"{path}: another process is downloading this file; wait for it") from None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self.file.fileno()).st_size

    @property
    def version(self) -> str:
        """The ETag or the date of the file that these bytes are the beginning of; empty if not known."""
        try:
            with open(self._mark, encoding="latin-1") as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def restart(self, version: str) -> None:
        """Forgets all bytes; those to come are of ``version``."""
        self.file.truncate(0)
        with open(self._mark, "w", encoding="latin-1") as file:
            file.write(version)

    def write(self, data: bytes) -> None:
        """Append. Raises StorageError if the disk is full."""
        left = memoryview(data)
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error.strerror}); free space and run again") from error

    def publish(self, path: str, kms_key: str | None) -> None:
        """Give the file its name, or on S3 uploads it, and forgets it here."""
        os.fsync(self.file.fileno())
        if is_s3(path):
            with open(self.path, "rb") as source, sopen(path, "wb", kms_key=kms_key) as target:
                shutil.copyfileobj(source, target, BLOCK)
            os.unlink(self.path)
        else:
            os.replace(self.path, path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._mark)
        if is_s3(path):
            with contextlib.suppress(OSError):  # another download of the same file may have begun
                os.rmdir(os.path.dirname(self.path))

    def close(self) -> None:
        """Lets others have it. One without a byte is removed."""
        if self.size == 0:
            for path in (self.path, self._mark):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        self.file.close()


def download(experiment: Experiment, stusab: str, force: bool = False, pause: float = 1.0) -> str:
    """Fetch a state's zip into ``dist/`` unless a whole one is there, and return its path.

    ``pause`` is the wait in seconds before the first repetition; it doubles. Raises StorageError if the server does not
    give the file, InputError if what it gives is not a whole zip.
    """
    path = experiment.dist_zip(stusab)
    url = experiment.url(stusab)
    if not url:
        raise InputError(
            f"{path}: the {experiment.release.title} is not to be downloaded, as its product.toml has no url; put the zip there"
        )
    if not force and exists(path):
        faults = _faults_in_dist(experiment, stusab)
        if not faults:
            log.info("%s: %s is whole already", stusab, path)
            return path
        log.warning("%s; downloading it again", faults[0])
    folder = _scratch_folder(path) if is_s3(path) else experiment.dist
    partial = Partial(os.path.join(folder, f"{os.path.basename(path)}.part"))
    try:
        if force:
            partial.restart("")
        _fetch(experiment, stusab, url, partial, pause)
        partial.publish(path, experiment.kms_key)
    finally:
        partial.close()
    log.debug("%s: %s is whole", stusab, path)
    return path


def _scratch_folder(path: str) -> str:
    """Return where a zip for S3 lies until it is whole. Whoever shares the temporary folder could leave a link under its name."""
    own = os.path.join(tempfile.gettempdir(), f"dbrecon-{os.getuid()}")
    with private_folder(own, variable="TMPDIR"):
        return os.path.join(own, re.sub(r"\W+", "_", path))


def _fetch(experiment: Experiment, stusab: str, url: str, partial: Partial, pause: float) -> None:
    """Fill ``partial`` with a whole zip, in several attempts where needed. An attempt that brought bytes is not counted."""
    failures, why = 0, ""
    while failures < ATTEMPTS:
        if failures:
            time.sleep(pause * 2 ** (failures - 1))
        before = partial.size
        try:
            _transfer(url, partial, stusab)
        except _Again as error:
            failures, why = (1 if partial.size > before else failures + 1), str(error)
            log.warning("%s: %s; %s so far", stusab, why, counted(partial.size, "byte"))
            continue
        faults = _faults_of_partial(experiment, stusab, url, partial)
        if not faults:
            return
        partial.restart("")
        failures, why = failures + 1, faults[0]
        if failures > 1:
            raise InputError(f"downloaded twice, and not whole: {why}")
        log.warning("%s; downloading it again from its beginning", why)
    if partial.size == 0:
        raise StorageError(f"{url}: {why}; nothing came: see the network, the proxy and [sf1] url, and run step 0 again")
    raise StorageError(f"{url}: {why}; the part that came is kept in {partial.path}: run step 0 again to go on")


def _faults_of_partial(experiment: Experiment, stusab: str, url: str, partial: Partial) -> list[str]:
    try:
        with open(partial.path, "rb") as file:
            return zip_faults(experiment, StateZip(file, experiment.release, stusab, url))
    except InputError as error:
        return [sentence(error)]


def _transfer(url: str, partial: Partial, stusab: str) -> None:
    """One request: appends what is missing, or begins anew if the server's file is another one or it knows no ranges.

    Raises _Again if repeating may help, StorageError if not.
    """
    from urllib3 import Retry
    from urllib3.exceptions import HTTPError, LocationValueError

    headers = {"Accept-Encoding": "identity"}
    offset, version = partial.size, partial.version
    if offset and version:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version}
    with _pool(url) as pool:
        try:
            # Redirects alone are followed here: what else is tried again is decided by _fetch.
            retries = Retry(total=None, connect=0, read=0, status=0, other=0, redirect=MAX_REDIRECTS)
            response = pool.request("GET", url, headers=headers, preload_content=False, retries=retries)
            _receive(url, response, partial, stusab)
        except LocationValueError as error:
            raise UsageError(f"{url}: not an address that begins with http:// or https://; correct [sf1] url") from error
        except HTTPError as error:
            raise _broken_off(url, error) from error


def _pool(url: str) -> "PoolManager":
    """Return connections, through the proxy that the environment names (http_proxy, https_proxy, no_proxy) if it does."""
    from urllib3 import PoolManager, ProxyManager, Timeout

    timeout = Timeout(CONNECT_SECONDS, read=READ_SECONDS)
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        return ProxyManager(proxy, timeout=timeout)
    return PoolManager(timeout=timeout)


def _broken_off(url: str, error: Exception) -> Exception:
    """Return what a failed request means: _Again where repeating may help, a StorageError where not."""
    reason = _reason(error)
    if "too many redirects" in reason:
        return _Refused(f"{url}: the server sends on and on to other addresses, {MAX_REDIRECTS} times; correct [sf1] url")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return _Refused(
            f"{url}: the server's certificate is not trusted ({reason}); name the certificates of your network in SSL_CERT_FILE, "
            "or set this machine's clock"
        )
    return _Again(f"the transfer broke off ({reason})")


def _reason(error: Exception) -> str:
    """Return the innermost cause of a network failure, short."""
    seen: BaseException = error
    while (inner := getattr(seen, "reason", None) or seen.__cause__) and isinstance(inner, BaseException):
        seen = inner
    return re.sub(r"<[^>]*>:?\s*", "", str(seen)) or type(seen).__name__


def _receive(url: str, response: "BaseHTTPResponse", partial: Partial, stusab: str) -> None:
    try:
        first = response.read1(BLOCK) if response.status == 200 else b""
        total = _total(url, response, partial, first)
        if total is not None and partial.size >= total:
            return
        with Progress(stusab, "B", total, partial.size) as progress:
            data = first or response.read1(BLOCK)  # read() would lose what it has when the transfer breaks off
            while data:
                partial.write(data)
                progress.add(len(data))
                data = response.read1(BLOCK)
        if total is not None and partial.size != total:
            raise _Again(f"the server sent {partial.size:,} of {counted(total, 'byte')}")
    finally:
        response.close()


def _total(url: str, response: "BaseHTTPResponse", partial: Partial, first: bytes) -> int | None:
    """Return the whole file's length if the server says it; makes ``partial`` fit what the response brings, of which ``first`` is
    read."""
    version = response.headers.get("ETag", "")
    if not version or version.startswith("W/"):  # If-Range takes no weak tag
        version = response.headers.get("Last-Modified", "")
    if response.status == 200:
        if first and not first.startswith(b"PK"):  # what came before is kept
            raise StorageError(f"{url}: the server answered with {_shown(first)}, not with a zip; {_BLOCKED}")
        partial.restart(version)
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    if response.status in (206, 416):
        span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
        if response.status == 206 and span and span[1] and int(span[1]) == partial.size:
            return int(span[2])
        if response.status == 416 and span and int(span[2]) == partial.size:
            return partial.size
        partial.restart("")
        raise _Again("the server cannot go on where the file broke off")
    if response.status in _PASSING:
        raise _Again(f"the server answered {response.status}")
    remedy = _REFUSALS.get(response.status, "correct [sf1] url")
    raise StorageError(f"{url}: the server answered {response.status}: {remedy}")


def _shown(body: bytes) -> str:
    """Return the beginning of what is no zip, for people: a page without its tags."""
    text = re.sub(rb"<[^>]*>", b" ", body[:2000]).decode("utf-8", "replace")
    shown = "".join(character if character.isprintable() else " " for character in " ".join(text.split()))[:80]
    return f"a page ({shown!r})" if b"<" in body[:200] else repr(shown)


_PASSING = frozenset([408, 425, 429, 500, 502, 503, 504, 507, 509, *range(520, 531)])
"""Answers after which the same request may do: too busy, too slow, a machine behind the server away."""
_BLOCKED = "a proxy or firewall may stand between: open the address in a browser, or get the file elsewhere and put it into dist/"
_GONE = "there is no such file; correct [sf1] url"
_DENIED = f"access is denied; {_BLOCKED}"
_REFUSALS = {
    401: _DENIED, 403: _DENIED, 404: _GONE, 410: _GONE, 451: _DENIED,
    407: "the proxy wants to know who asks; put name and password into https_proxy (http://NAME:PASSWORD@HOST:PORT)",
}  # fmt: skip


# -- the command line ---------------------------------------------------------------------------------------------------


def states_to_download(words: Sequence[str]) -> list[str]:
    """Return the states that a command line names; ``all`` is the 50 states and DC. UsageError for an unknown one, or none."""
    if not words:
        raise UsageError("which states shall be downloaded? Give their two letters, or all")
    named = [check_stusab(word) for word in words if word != "all"]
    return list(dict.fromkeys([*named, *([stusab for stusab in STATES if stusab != "pr"] if "all" in words else [])]))


def report_validity(experiment: Experiment, words: Sequence[str]) -> int:
    """Print each state's condition; 3 (as for InputError) if one is broken."""
    broken = 0
    for stusab in asked_states(experiment, words, warn=False):
        faults = validate(experiment, [stusab])[stusab]
        for fault in faults:
            print(f"{stusab}: {fault}", flush=True)
        if not faults:
            print(f"{stusab}: {experiment.dist_zip(stusab)} is whole", flush=True)
        broken += bool(faults)
    for name in listdir(experiment.dist):
        if name.endswith(".zip.part"):
            print(f"{experiment.dist}/{name}: an unfinished download; run step 0 again to go on")
    for other in passed_over(experiment).values() if not words or "all" in words else ():
        print(other)
        broken += "rename it" in other
    return InputError.exit_code if broken else 0

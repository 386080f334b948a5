"""What can go wrong with a file or an object, as sentences: for ``dbrecon.ctools.storage`` and ``dbrecon.ctools.s3``.

Every sentence about S3 names bucket and key (``s3://bucket/key``), the operation, and what S3 said.
"""

from __future__ import annotations

import errno
import os
import zlib
from typing import cast

from isal import igzip, isal_zlib

from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError, StorageError, Subject

GZIP_ERRORS: tuple[type[BaseException], ...] = (
    EOFError,
    zlib.error,
    cast("type[BaseException]", isal_zlib.error),
    igzip.BadGzipFile,
)
MISSING = (errno.ENOENT, errno.ENOTDIR)


class MissingFile(StorageError):
    """There is no such file or object. The storage works: for a script it is data that are missing."""

    exit_code = InputError.exit_code
    tells_cause = True


class DamagedFile(StorageError):
    """The file is there and can be read, but it is not whole. For a script it is data that are damaged."""

    exit_code = InputError.exit_code
    tells_cause = True


class _CompleteError(StorageError):
    """What the system or S3 refused, with its reason: the error behind it tells no more."""

    tells_cause = True


class DeniedFile(_CompleteError):
    """This user has not the right to the file."""


class NoRegularFile(StorageError):
    """A pipe or a device stands where a file is needed."""


def is_s3(path: str | os.PathLike[str]) -> bool:
    """Return whether ``path`` is on S3."""
    return os.fspath(path).startswith("s3://")


def failures(path: str) -> tuple[type[BaseException], ...]:
    """Return what the system, or for S3 smart_open and botocore, raise where ``path`` cannot be used."""
    if not is_s3(path):
        return (OSError,)
    with extra("aws"):
        from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return (OSError, ValueError, BotoCoreError, ClientError, HTTPError)


def s3_code(error: BaseException) -> str:
    """Return the S3 error code behind ``error``, which smart_open may have wrapped; "" where there is none."""
    return _answer(error)[0]


def _answer(error: BaseException) -> tuple[str, str]:
    """Return (error code, operation) that S3 gave behind ``error``."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", "")), str(getattr(seen, "operation_name", ""))
        seen = getattr(seen, "backend_error", None) or seen.__cause__ or seen.__context__
    return "", ""


def is_missing(error: BaseException) -> bool:
    """Return whether ``error`` says that there is no such file or object (a missing bucket is another matter)."""
    if isinstance(error, MissingFile):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in MISSING
    return s3_code(error) in ("404", "NoSuchKey", "NotFound")


def no_such(path: str) -> StorageError:
    """Return the error for a file that is not there."""
    return MissingFile(f"{path} does not exist; run the step that makes it, or correct the path.")


def no_such_name(path: str, folder: bool) -> StorageError:
    """Return the error for a name that somebody typed, of no file: there is nothing, or a folder."""
    return MissingFile(f"{path} is a folder; name a file." if folder else f"{path}: there is no such file; correct the name.")


def damaged(path: str) -> StorageError:
    """Return the error for a ``.gz`` that is cut off, changed, or no gzip at all."""
    return DamagedFile(f"{path} is not a whole gzip file; get a whole copy of it, or make it again.")


def bomb(path: str, ratio: int) -> StorageError:
    """Return the error for a ``.gz`` that unpacks to far more than any file of an experiment."""
    what = f"{path} unpacks to more than {ratio} times its size, and so is no file of an experiment"
    return DamagedFile(f"{what}; name another, or unpack it if you trust it.")


def too_large(path: str) -> StorageError:
    """Return the error for a file that this process has not the memory for."""
    remedy = "raise its limit (ulimit -v) or take a larger machine"
    return _CompleteError(f"{path} does not fit into the memory that this process may take; {remedy}.")


def explain(error: BaseException, path: str, action: str) -> StorageError:
    """Return the sentence for a failure of ``action`` ("read", "write", "remove", "list", "look at") on ``path``."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, GZIP_ERRORS):
        return damaged(path)
    if is_s3(path):
        return _explain_s3(error, path, action)
    if is_missing(error) and action != "write":
        return no_such(path)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return _CompleteError(f"{path} cannot be written: the disk is full; free some space and run again.")
    reason = os.strerror(number) if number else str(error)
    remedy = {
        errno.EACCES: "give this user the right to it",
        errno.EPERM: "give this user the right to it",
        errno.EROFS: "choose a root that can be written",
        errno.EEXIST: "a file stands where a folder is needed: move it away",
        errno.ENOTDIR: "a file stands where a folder is needed: move it away",
        errno.EISDIR: "a folder stands where a file is needed: move it away",
        errno.EMFILE: "raise the limit on open files (ulimit -n)",
    }.get(number or 0, "check the disk and run again")
    kind = DeniedFile if number in (errno.EACCES, errno.EPERM) else _CompleteError
    return kind(f"Cannot {action} {path} ({reason}); {remedy}.")


_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to it"
_REMEDIES = {
    "NoSuchBucket": "there is no such bucket: make it or correct DAS_S3ROOT",
    "400": "the request was refused: mostly credentials have expired, or the region is wrong",
    "403": "access is denied: give these credentials the right to the bucket and key (and to list the bucket)",
    "AccessDenied": "access is denied: give these credentials the right to the bucket and key",
    "ExpiredToken": "the AWS credentials have expired: renew them",
    "ExpiredTokenException": "the AWS credentials have expired: renew them",
    "RequestExpired": "the AWS credentials have expired: renew them",
    "InvalidToken": "the AWS session token is not valid: renew the credentials",
    "TokenRefreshRequired": "the AWS credentials have expired: renew them",
    "InvalidAccessKeyId": "the AWS access key is not known there: correct the credentials",
    "SignatureDoesNotMatch": "the AWS secret key is not right: correct the credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "SlowDown": "S3 keeps asking to slow down: run fewer workers, or again later",
    "503": "S3 keeps asking to slow down: run fewer workers, or again later",
    "PreconditionFailed": "it was replaced while it was read: run again",
    "412": "it was replaced while it was read: run again",
    "EntityTooLarge": "the object is larger than this server takes",
    "BadDigest": "what arrived is not what was sent, again and again: check the network",
    "XAmzContentChecksumMismatch": "what arrived is not what was sent, again and again: check the network",
    "XAmzContentSHA256Mismatch": "what arrived is not what was sent, again and again: check the network",
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
}
_TELL_MORE = ("400", "403", "AccessDenied")
"""Codes with which S3's own message may say which right it is that lacks."""


def _explain_s3(error: BaseException, path: str, action: str) -> StorageError:
    code, operation = _answer(error)
    if code in ("NoSuchKey", "404", "NotFound"):
        also = " (or no such bucket)" if code != "NoSuchKey" else ""
        return MissingFile(
            f"Cannot {action} {path} (S3 {operation}: {code}): there is no such object{also}; run the step that makes it, "
            "or correct the path."
        )
    if code:
        if code not in _REMEDIES and code.startswith("KMS."):
            refused = f"Cannot {action} {path} (S3 {operation}: {code}); the encryption key cannot be used"
            return StorageError(refused, about=Subject.S3_KEY)
        remedy = _REMEDIES.get(code, "run again, and see the bucket's settings if it stays")
        kind = _CompleteError if code in _REMEDIES and code not in _TELL_MORE else StorageError
        return kind(f"Cannot {action} {path} (S3 {operation}: {code}); {remedy}.")
    cause: BaseException = error
    while isinstance(cause, (ValueError, OSError)) and cause.__cause__ is not None:
        cause = cause.__cause__
    name = type(cause).__name__
    if "Credential" in name or "Profile" in name or "Token" in name or "SSO" in name:
        remedy = "there are no usable AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    elif isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "the disk is full that holds the temporary folder ($TMPDIR): free some space and run again"
    else:
        remedy = f"S3 was not reached or broke off ({name}): check the network and AWS_ENDPOINT_URL, and run again"
    return StorageError(f"Cannot {action} {path}; {remedy}.")

"""Objects on S3, or on any server that speaks its protocol: for ``dbrecon.ctools.storage``, which every other module uses.

The client follows the ordinary AWS settings (``AWS_PROFILE``, ``AWS_ENDPOINT_URL``, instance roles, ...); botocore's adaptive mode
repeats what was throttled, timed out or refused by a broken connection. What botocore leaves alone is repeated here: a body that
breaks off while it is read, and an upload that arrived damaged.

An upload carries its MD5 and its CRC-32. S3 refuses it (BadDigest) when one does not fit what arrived, and keeps the CRC-32, which
is compared whenever the whole object is read. Up to 64 MiB an object is one PUT; beyond, an upload in parts, each with its sums,
which becomes visible when it is completed and is aborted when anything fails. Whoever is killed in between leaves parts
that nobody sees but the bill: ``unfinished`` finds them, ``abort`` removes them.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import IO, Any, TypeVar, cast

from isal import isal_zlib

from dbrecon.ctools.extras import extra
from dbrecon.ctools.s3_patience import wait_while_away
from dbrecon.ctools.storage_errors import s3_code
from dbrecon.errors import StorageError

T = TypeVar("T")
log = logging.getLogger(__name__)

PART_FROM_BYTES = 64 << 20
PART_BYTES = 16 << 20  # at most 10,000 parts: 160 GB
MOST_CONNECTIONS = 32
ATTEMPTS = 5
_ENVIRONMENT = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_MAX_ATTEMPTS", "AWS_ACCESS_KEY_ID")
_UPLOAD_DAMAGED = {
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
}
_UPLOAD_GONE = {"NoSuchUpload"}
"""Completed by an attempt whose answer was lost, or cleared away by an operator: to be on the safe side it begins anew."""

_clients: dict[tuple[object, ...], Any] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """A file or object: its path, its bytes as it lies, and when it was written (Unix time)."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True)
class Unfinished:
    """Something that was being written, and may be no more: ``begun`` is Unix time, ``token`` is for ``abort``."""

    path: str
    begun: int
    token: str


def split_s3(path: str) -> tuple[str, str]:
    """Return (bucket, key) of an ``s3://bucket/key`` path."""
    bucket, _, key = path.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise StorageError(f"{path} is not the path of an S3 object: that is s3://bucket/key.")
    return bucket, key


def client() -> Any:
    """Return this process's client, made when first needed, never inherited by a fork."""
    key = (os.getpid(), *(os.environ.get(name) for name in _ENVIRONMENT))
    with _lock:
        if key not in _clients:
            _clients[key] = _make_client()
        return _clients[key]


def _make_client() -> Any:
    with extra("aws"):
        import boto3
        import smart_open  # noqa: F401 - what reads and writes by this client
        from botocore.config import Config

    retries: dict[str, Any] = {}
    if "AWS_RETRY_MODE" not in os.environ:
        retries["mode"] = "adaptive"
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = 8
    config = Config(
        retries=cast("Any", retries),
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=MOST_CONNECTIONS,
        # read_all asks for the checksum of a whole object. Some servers send that with a range too, which it cannot fit.
        response_checksum_validation="when_required",
    )
    session = boto3.session.Session()
    made = session.client("s3", config=config)
    made.meta.events.register("after-call.s3.GetObject", _tell_range)
    wait_while_away(made, session)
    return made


def _tell_range(parsed: dict[str, Any], **_: Any) -> None:
    """Correct an answer to a range with 200 in place of 206, which smart_open takes for the whole object."""
    if "ContentRange" in parsed and parsed["ResponseMetadata"]["HTTPStatusCode"] == 200:
        parsed["ResponseMetadata"]["HTTPStatusCode"] = 206


# -- reading ------------------------------------------------------------------------------------------------------------


def read_all(path: str) -> bytes:
    """Return the whole object, in one request; its checksum is compared if S3 has one."""
    bucket, key = split_s3(path)

    return body_of(lambda: client().get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED"), path)


def open_reader(path: str) -> Any:
    """Return a seekable reader of smart_open's, which goes on where a connection broke off."""
    from smart_open import s3

    bucket, key = split_s3(path)
    return s3.open(bucket, key, "rb", buffer_size=1 << 18, client=client())


def look(path: str) -> Entry:
    """Return size and time of an object. What botocore raises if there is none."""
    bucket, key = split_s3(path)
    found = client().head_object(Bucket=bucket, Key=key)
    return Entry(path, int(found["ContentLength"]), int(found["LastModified"].timestamp()))


def body_of(request: Callable[[], Any], path: str) -> bytes:
    """Return the body of the answer to a request, whole; the request is made again when the body breaks off or comes damaged."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError
    from urllib3.exceptions import HTTPError

    for attempt in range(1, ATTEMPTS + 1):
        response = request()
        try:
            return cast("bytes", response["Body"].read())
        except (FlexibleChecksumError, HTTPClientError, IncompleteReadError, HTTPError, ConnectionError) as error:
            if attempt == ATTEMPTS:
                raise
            log.debug("%s broke off while it was read (%s): read again", path, error)
            _pause(attempt)
    raise AssertionError("the last attempt returns or raises")


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.5, 1.0) * 0.05 * 2**attempt)


# -- writing ------------------------------------------------------------------------------------------------------------


def put(path: str, file: IO[bytes], kms_key: str | None = None) -> None:
    """Make the object from all of ``file`` (seekable). It is visible, whole, when this returns, and not before.

    ``kms_key``: encrypt on the server with this KMS key (its id, ARN or alias); None is the bucket's own default.
    """
    bucket, key = split_s3(path)
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    _put_any(file, {"Bucket": bucket, "Key": key}, encryption, {}, path)


FENCE = "dbrecon-claim"
"""The metadata that holds the number of the claim under which an object was put."""
_CONDITION_FAILED = {"PreconditionFailed", "412"}
_CONDITION_RACED = {"ConditionalRequestConflict", "409"}
_NO_CONDITIONS = {"NotImplemented", "501"}


def put_fenced(path: str, file: IO[bytes], fence: int, kms_key: str | None = None) -> bool:
    """As :func:`put`, unless the object that is there carries a higher number than ``fence``: then False, and nothing is done.

    Where nothing is there, as nearly always, that is one request as without. A store without conditional puts is asked first what
    is there, and then gets a plain one.
    """
    from botocore.exceptions import ClientError

    bucket, key = split_s3(path)
    target = {"Bucket": bucket, "Key": key}
    more: dict[str, Any] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    more["Metadata"] = {FENCE: str(fence)}
    condition: dict[str, str] = {"IfNoneMatch": "*"}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _put_any(file, target, more, condition, path)
            return True
        except ClientError as error:
            code = s3_code(error)
            if code in _NO_CONDITIONS and condition:
                _say_no_conditions(bucket)
                condition, present = {}, _fence_of(target)
                if present is not None and present[0] > fence:
                    return False
            elif code in _CONDITION_FAILED:
                present = _fence_of(target)
                if present is not None and present[0] > fence:
                    return False
                if present is not None and present[0] == fence > 0:
                    return True  # put under this claim: the answer to an earlier attempt was lost
                condition = {"IfMatch": present[1]} if present else {"IfNoneMatch": "*"}
            elif code not in _CONDITION_RACED or attempt == ATTEMPTS:
                raise
            else:
                _pause(attempt)
    raise StorageError(f"{path}: changes under every attempt to write it; see who else writes there, then run this again")


def keeps_conditions(path: str, kms_key: str | None = None) -> bool | None:
    """Return whether the store holds a put to its condition, tried with an empty object at ``path``, which goes again. None: it
    refuses puts with conditions."""
    from botocore.exceptions import ClientError

    bucket, key = split_s3(path)
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    try:
        for _ in range(2):
            client().put_object(Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*", **encryption)
    except ClientError as error:
        if s3_code(error) in _NO_CONDITIONS:
            return None
        if s3_code(error) not in _CONDITION_FAILED:
            raise
        return True
    finally:
        delete(path)
    return False


@cache
def _say_no_conditions(bucket: str) -> None:
    """Once a process: it is so at every put."""
    log.warning("s3://%s: this store knows no conditional put; objects are looked at before, and written without", bucket)


def _fence_of(target: dict[str, str]) -> tuple[int, str] | None:
    """Return the number and the ETag of the object that is there; 0 for one that was put without; None if there is none."""
    from botocore.exceptions import ClientError

    try:
        found = client().head_object(**target)
    except ClientError as error:
        if s3_code(error) in ("404", "NoSuchKey", "NotFound"):
            return None
        raise
    fence = found.get("Metadata", {}).get(FENCE, "")
    return int(fence) if fence.isdecimal() else 0, str(found["ETag"])


def _put_any(file: IO[bytes], target: dict[str, str], more: dict[str, Any], condition: dict[str, str], path: str) -> None:
    """One PUT, or an upload in parts for a large file; ``condition`` is that of the moment in which the object appears."""
    if file.seek(0, os.SEEK_END) > PART_FROM_BYTES:
        _again(lambda: _put_in_parts(file, target, more, condition), _UPLOAD_GONE, path)
    else:
        _put_whole(file, target, more | condition)


def _again(send: Callable[[], T], codes: set[str], what: str) -> T:
    """Call ``send()``, again where S3 answers with one of the codes, at most ``ATTEMPTS`` times in all."""
    from botocore.exceptions import ClientError

    for attempt in range(1, ATTEMPTS):
        try:
            return send()
        except ClientError as error:
            if s3_code(error) not in codes:
                raise
            log.warning("%s did not arrive as it was sent (%s): sent again", what, s3_code(error))
            _pause(attempt)
    return send()


def _put_whole(file: IO[bytes], target: dict[str, str], more: dict[str, Any]) -> None:
    md5, crc = hashlib.md5(usedforsecurity=False), 0
    file.seek(0)
    while piece := file.read(1 << 20):
        md5.update(piece)
        crc = isal_zlib.crc32(piece, crc)
    wanted = {**target, **more, "ChecksumAlgorithm": "CRC32", **_sums(md5.digest(), crc)}

    def send() -> None:
        file.seek(0)
        client().put_object(**wanted, Body=file)

    _again(send, _UPLOAD_DAMAGED, target["Key"])


def _put_in_parts(file: IO[bytes], target: dict[str, str], more: dict[str, Any], condition: dict[str, str]) -> None:
    file.seek(0)
    begun = client().create_multipart_upload(**target, **more, ChecksumAlgorithm="CRC32")
    upload = {**target, "UploadId": begun["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        while piece := file.read(PART_BYTES):
            sums = _sums(hashlib.md5(piece, usedforsecurity=False).digest(), zlib.crc32(piece))
            part = {"PartNumber": len(parts) + 1}
            wanted = {**upload, **part, "Body": piece, "ChecksumAlgorithm": "CRC32", **sums}
            sent = _again(partial(client().upload_part, **wanted), _UPLOAD_DAMAGED, f"{target['Key']}, part {len(parts) + 1}")
            parts.append({**part, "ETag": sent["ETag"], "ChecksumCRC32": sums["ChecksumCRC32"]})
        client().complete_multipart_upload(**upload, **condition, MultipartUpload={"Parts": parts})
    except BaseException:
        _give_up(upload)
        raise


def _give_up(upload: dict[str, str]) -> None:
    """Aborts an upload. If that fails too, it stays for ``unfinished`` to find: the first error matters more."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client().abort_multipart_upload(**upload)
    except (BotoCoreError, ClientError) as error:
        if s3_code(error) in _UPLOAD_GONE:
            return
        log.warning("the unfinished upload of s3://%s/%s stays behind (%s)", upload["Bucket"], upload["Key"], error)


def _sums(md5: bytes, crc: int) -> dict[str, str]:
    return {
        "ContentMD5": base64.b64encode(md5).decode(),
        "ChecksumCRC32": base64.b64encode(crc.to_bytes(4, "big")).decode(),
    }


def presigned(path: str, seconds: int) -> str:
    """Return a URL by which anyone can read an object for so many seconds. Nothing is asked of S3."""
    bucket, key = split_s3(path)
    url: str = client().generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
    return url


def delete(path: str) -> None:
    """Remove the object, if it is there."""
    bucket, key = split_s3(path)
    client().delete_object(Bucket=bucket, Key=key)


# -- listing ------------------------------------------------------------------------------------------------------------


def split_folder(folder: str) -> tuple[str, str]:
    """Return (bucket, prefix) of a folder; the prefix ends in a slash unless it is empty."""
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def names(folder: str) -> list[str]:
    """Return the names in a folder: objects, and common prefixes without their slash."""
    bucket, prefix = split_folder(folder)
    found: list[str] = []
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        found += [folder_entry["Prefix"][len(prefix) :].rstrip("/") for folder_entry in page.get("CommonPrefixes", [])]
        found += [entry["Key"][len(prefix) :] for entry in page.get("Contents", [])]
    return [name for name in found if name]


def walk(folder: str) -> Iterator[Entry]:
    """Yield every object below a folder, by key, one request for a thousand."""
    bucket, prefix = split_folder(folder)
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            if not entry["Key"].endswith("/"):
                yield Entry(f"s3://{bucket}/{entry['Key']}", int(entry["Size"]), int(entry["LastModified"].timestamp()))


def unfinished(folder: str) -> Iterator[Unfinished]:
    """Yield the uploads in parts below a folder that are neither completed nor aborted, whoever began them."""
    bucket, prefix = split_folder(folder)
    for page in client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        for upload in page.get("Uploads", []):
            yield Unfinished(f"s3://{bucket}/{upload['Key']}", int(upload["Initiated"].timestamp()), upload["UploadId"])


def abort(upload: Unfinished) -> None:
    """Remove an unfinished upload and its parts. One that has ended meanwhile is fine."""
    from botocore.exceptions import ClientError

    bucket, key = split_s3(upload.path)
    try:
        client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload.token)
    except ClientError as error:
        if s3_code(error) != "NoSuchUpload":
            raise

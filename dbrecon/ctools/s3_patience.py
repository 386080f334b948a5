"""How an S3 client waits for a server that is away, or for credentials that have expired (see :mod:`dbrecon.ctools.patience`).

It hangs in botocore's own repetition of requests (the ``needs-retry`` event): when botocore's retries, which last a few seconds,
are used up, the same request is made again, newly signed, until S3 answers or patience ends. So whatever goes through the client
waits: reads, uploads, listings.
"""

from __future__ import annotations

import time
from typing import Any

from dbrecon.ctools.patience import patience

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken"}
AWAY = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError", "ServiceUnavailable"}
SINCE = "dbrecon_away_since"


def wait_while_away(client: Any, session: Any) -> None:
    """Have a boto3 client of S3 wait while S3 is away; ``session`` is the boto3 session it was made from."""

    def again(
        response: Any, caught_exception: BaseException | None, attempts: int, operation: Any, request_dict: dict[str, Any], **_: Any
    ) -> float | None:
        code = _away_code(response, caught_exception)
        if code is None:
            return None
        context = request_dict["context"]
        since = context.setdefault(SINCE, time.monotonic())
        place = "/".join(str(context.get("input_params", {}).get(name, "")) for name in ("Bucket", "Key")).rstrip("/")
        why = "the AWS credentials have expired: renew them" if code in EXPIRED else f"S3 is away ({code})"
        pause = patience().pause(since, attempts, f"s3://{place}, {operation.name}: {why}")
        if pause is not None and code in EXPIRED:
            renew(session)
        return pause

    client.meta.events.register_last("needs-retry.s3", again)


def _away_code(response: Any, error: BaseException | None) -> str | None:
    """Return what says that S3 is away, or that credentials have expired: S3's code, or the error's name; None for all else."""
    from botocore.exceptions import ConnectionError as AnyConnectionError
    from botocore.exceptions import HTTPClientError, SSLError

    if error is not None:
        away = isinstance(error, HTTPClientError | AnyConnectionError) and not isinstance(error, SSLError)
        return type(error).__name__ if away else None
    if response is None:
        return None
    http, parsed = response
    code = str(parsed.get("Error", {}).get("Code", ""))
    if http.status_code >= 500 or code in AWAY | EXPIRED:
        return code or str(http.status_code)
    return None


def renew(session: Any) -> None:
    """Read anew what the credentials are, from wherever the first were found: a file that was written again, a role."""
    import boto3

    used, fresh = session.get_credentials(), boto3.session.Session().get_credentials()
    if used is not None and fresh is not None:
        found = fresh.get_frozen_credentials()
        used.access_key, used.secret_key, used.token = found.access_key, found.secret_key, found.token

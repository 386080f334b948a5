"""Clients of Amazon's services, and their errors as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbrecon.ctools.extras import extra
from dbrecon.errors import RemoteError, Subject

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

SERVICES = {"emr": ("EMR", "elasticmapreduce"), "kms": ("KMS", "kms")}
_LACKS = {
    ("DescribeCluster", "InvalidRequestException"): Subject.EMR_CLUSTER,
    ("DescribeCluster", "ResourceNotFoundException"): Subject.EMR_CLUSTER,
    ("Encrypt", "NotFoundException"): Subject.KMS_KEY,
    ("GenerateDataKey", "NotFoundException"): Subject.KMS_KEY,
}
"""What is not there, when a service answers so."""
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


class AwsError(RemoteError):
    """A service of AWS that refuses or cannot be reached. ``code`` is the service's own name for what is wrong."""

    code = ""


def client(service: str) -> Any:
    """Return a client of ``service`` ("emr", "kms"), where the environment or ~/.aws says. Raises AwsError."""
    with extra("aws"):
        import boto3
        from botocore.config import Config

    config = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
    with explained(service):
        return boto3.client(service, config=config)


@contextmanager
def explained(service: str) -> Iterator[None]:
    """Turn what goes wrong with a service into an AwsError."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    name, prefix = SERVICES[service]
    try:
        yield
    except NoRegionError as error:
        raise AwsError(f"{name}: no region is set: export AWS_DEFAULT_REGION") from error
    except NoCredentialsError as error:
        raise AwsError(f"{name}: there are no AWS credentials here: use an instance's role, or set AWS_PROFILE") from error
    except ClientError as error:
        raise _refused(name, prefix, error) from error
    except BotoCoreError as error:
        raise AwsError(f"{name} cannot be reached ({' '.join(str(error).split())})") from error


def _refused(name: str, prefix: str, error: ClientError) -> AwsError:
    fault = error.response.get("Error", {})
    code, message = str(fault.get("Code", "")), " ".join(str(fault.get("Message", "")).split())[:300]
    operation = error.operation_name
    if code in _DENIED:
        made = AwsError(f"{name} refuses {operation}: your role needs the IAM permission {prefix}:{operation}")
    else:
        reason = ": ".join(part for part in (code, message) if part)
        made = AwsError(f"{name} refuses {operation} ({reason})", about=_LACKS.get((operation, code)))
    made.code = code
    return made

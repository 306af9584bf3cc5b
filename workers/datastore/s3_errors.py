"""What an S3 server refuses, or does not answer, as errors that say what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from contracts.failures import FailureCode, PermanentError, TransientError, VaultError
from workers.datastore.backend import MissingError

MISSING: Final = frozenset({"NoSuchKey", "NoSuchUpload"})  # not NoSuchBucket: a lost bucket is not an empty store


class TakenError(PermanentError):
    """The key has an object, and `If-None-Match: *` kept us from overwriting it."""

    def __init__(self) -> None:
        super().__init__(FailureCode.CONFLICT, "object_exists")


class RangeError(PermanentError):
    """The object ends before the range begins."""

    def __init__(self) -> None:
        super().__init__(FailureCode.INTEGRITY_FAILED, "object_truncated")


@contextmanager
def s3_errors() -> Iterator[None]:
    """Turn what the server refuses, or does not answer, into errors that say what to do."""
    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except (BotoCoreError, OSError) as error:
        raise TransientError(FailureCode.STORE_UNAVAILABLE, "s3_unreachable") from error


def _refusal(error: ClientError) -> VaultError:
    """By error code where one is sent, by status where it says the same on every server."""
    code = error.response["Error"].get("Code", "")
    if code in MISSING:
        return MissingError()
    match error.response["ResponseMetadata"].get("HTTPStatusCode"):
        case 412:
            return TakenError()
        case 416:
            return RangeError()
    return TransientError(FailureCode.STORE_UNAVAILABLE, "s3_" + re.sub(r"[^a-z0-9]+", "_", code.lower()))

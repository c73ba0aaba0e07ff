"""Objects of an S3 bucket, by boto3: Amazon's, or whatever speaks its protocol (MinIO, Ceph, SeaweedFS, …).

Credentials, region, endpoint and authority are found as every AWS program finds them: `AWS_*`, the files of `~/.aws`,
the role of the container, pod or machine; those that run out are fetched anew by the library. MLFLOW_S3_ENDPOINT_URL
wins over AWS_ENDPOINT_URL, as it does in MLflow. Called by the store of checkpoints, and by our part of the MLflow
server for the words about its artifacts.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

SCHEME = "s3://"
EXTRA = "boto3 is not installed here: `make s3`, or build the image with MORE_LOCKS=requirements-s3.lock"

#: A training waits for its checkpoint: a store that is silent costs at most 2 tries of (5 + 15) s.
_TIMES = {"connect_timeout": 5, "read_timeout": 15, "retries": {"mode": "standard", "total_max_attempts": 2}}

_KEYS = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this process a role"
_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to it"
_TODO = {
    "NoSuchBucket": "make the bucket, or correct its name",
    "InvalidBucketName": "correct the bucket's name",
    "AccessDenied": "allow these credentials to list the bucket, and to read, write and delete objects in it",
    "AllAccessDisabled": "the account or the bucket is disabled: ask whoever runs the store",
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "NoCredentialsError": _KEYS,
    "PartialCredentialsError": _KEYS,
    "ExpiredToken": "these credentials have run out and cannot be renewed here: use a role, or keys that last",
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to these keys: correct or remove it",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "RequestTimeTooSkewed": "set this machine's clock right: the store refuses requests of another time",
    "EndpointConnectionError": "correct AWS_ENDPOINT_URL or MLFLOW_S3_ENDPOINT_URL, or wait until the store is back",
    "InvalidEndpoint": "write AWS_ENDPOINT_URL or MLFLOW_S3_ENDPOINT_URL as http://host:port or https://host",
    "ImportError": EXTRA,
}
"""By S3's error code, or by the name of the library's error: what a person does about it."""
_FINAL = {
    *("NoSuchBucket", "InvalidBucketName", "InvalidEndpoint", "ImportError"),
    *(code for code, todo in _TODO.items() if todo == _REGION),
}


class S3Files:
    """Objects below a URL such as `s3://bucket/prefix`; errors are boto3's own, or ImportError.

    Not for use across a fork.
    endpoint : of a store that is not Amazon's; None: by AWS_ENDPOINT_URL, or Amazon's
    """

    def __init__(self, url: str, *, endpoint: str | None = None) -> None:
        parts = urlsplit(url)
        self._bucket, self._prefix, self._endpoint = parts.netloc, parts.path.strip("/"), endpoint

    def put(self, path: str, content: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self._bucket, Key=self._key(path), Body=content)

    def get(self, path: str) -> bytes | None:
        """Content of an object; None where the store itself says that there is none, and not a proxy before it."""
        try:
            return bytes(self._client.get_object(Bucket=self._bucket, Key=self._key(path))["Body"].read())
        except self._client.exceptions.NoSuchKey:
            return None

    def remove(self, path: str) -> None:
        """Delete an object; nothing where there is none."""
        self._client.delete_object(Bucket=self._bucket, Key=self._key(path))

    def remove_all(self, folder: str) -> None:
        """Delete all objects of a folder."""
        # One by one: in the answer to a request about many, a refusal of one is easily overlooked.
        for path in self.listed(folder):
            self.remove(f"{folder}/{path}")

    def listed(self, folder: str) -> dict[str, datetime]:
        """When each object of a folder was written, by its path below the folder."""
        prefix = self._key(folder) + "/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {
            one["Key"].removeprefix(prefix): one["LastModified"] for page in pages for one in page.get("Contents", ())
        }

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 -- boto3 makes its classes at run time
        import boto3  # noqa: PLC0415 -- an extra
        from botocore.config import Config  # noqa: PLC0415

        # A session of its own: boto3's shared one is not safe among threads.
        return boto3.session.Session().client("s3", endpoint_url=self._endpoint or None, config=Config(**_TIMES))


def code_of(exc: BaseException) -> str:
    """S3's own code of an error, as `NoSuchBucket`; the class's name where it has none, as `EndpointConnectionError`.

    An upload by parts hides its cause in another error's context.
    """
    seen: BaseException | None = exc
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict) and response.get("Error", {}).get("Code"):
            return str(response["Error"]["Code"])
        seen = seen.__cause__ or seen.__context__
    if isinstance(exc, ValueError) and "endpoint" in str(exc).lower():
        return "InvalidEndpoint"
    return "ImportError" if isinstance(exc, ImportError) else type(exc).__name__


def in_words(exc: BaseException) -> str:
    """The error in words, with what to do about it where that is known."""
    code = code_of(exc)
    todo = _TODO.get(code)
    if code == "ImportError":
        return EXTRA
    words = str(exc) if code in str(exc) else f"{code}: {exc}"
    return f"{words}; {todo}" if todo else words


def is_refusal(exc: BaseException) -> bool:
    """Whether the store, or this installation, refuses in a way that a person mends; else it is away, or a proxy is."""
    return code_of(exc) in _TODO.keys() - {"EndpointConnectionError"}


def is_final(exc: BaseException) -> bool:
    """Whether only a person can change it: there is no such bucket, it is elsewhere, or a package is missing.

    What concerns credentials is not: while keys are changed, no run may end for good.
    """
    return code_of(exc) in _FINAL

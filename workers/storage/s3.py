"""Any S3, spoken by boto3 and sent by us: `{PREFIX/}{bucket}/{user_id}/{file}` in one bucket of S3's.

Credentials, region and endpoint are boto3's to find (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, profiles, roles …), and it
signs and parses. The bytes go through `workers.timed_http`, since boto3's own time limits begin anew with each byte.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import boto3
import requests
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from requests.structures import CaseInsensitiveDict

from workers.errors import Misconfigured, StageEnds, TryAgain
from workers.storage.keys import check_bucket, split_key
from workers.storage.over_http import ANSWER_BYTES, Wire, printable, verdict


class S3Bucket:
    """Assets in one bucket of an S3, below `prefix`. Raises ValueError where boto3 cannot be set up."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._wire = Wire(f"s3://{bucket}", verify=os.environ.get("AWS_CA_BUNDLE") or True)
        config = Config(
            signature_version="s3v4",  # URLs signed in the older way are refused by newer regions and other S3s
            retries={"total_max_attempts": 1, "mode": "standard"},  # the lanes decide when to try again
            request_checksum_calculation="when_required",  # other S3s than Amazon's refuse the newer checksums
            response_checksum_validation="when_required",
        )
        try:
            self._client: Any = boto3.session.Session().client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ValueError(f"s3:// cannot be set up: {type(error).__name__}; look at the AWS_ variables") from None
        self._client.meta.events.register("before-send.s3", self._send)

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        """See `Bucket.put`. S3 replaces what is there, so a second time ends as the first."""
        split_key(key)
        name = f"{self.prefix}{check_bucket(bucket)}/{key}"
        with self._asking(seconds):
            self._client.put_object(Bucket=self.bucket, Key=name, Body=data, ContentType=content_type)

    def get(self, bucket: str, key: str, *, most: int, seconds: float) -> bytes | None:
        """See `Bucket.get`."""
        split_key(key)
        name = f"{self.prefix}{check_bucket(bucket)}/{key}"
        with self._asking(seconds, most=max(most, ANSWER_BYTES)):
            try:
                stored = self._client.get_object(Bucket=self.bucket, Key=name)["Body"].read(most)
            except self._client.exceptions.NoSuchKey:
                return None
        return bytes(stored)

    def remove(self, bucket: str, key: str, *, seconds: float) -> None:
        """See `Bucket.remove`. A bucket that keeps versions only hides what is deleted: so they go one by one."""
        split_key(key)
        name = f"{self.prefix}{check_bucket(bucket)}/{key}"
        with self._asking(seconds):
            marked = self._client.delete_object(Bucket=self.bucket, Key=name)
            if "VersionId" in marked:
                for version in self._versions(name):
                    self._client.delete_object(Bucket=self.bucket, Key=name, VersionId=version)

    def _versions(self, name: str) -> list[str]:
        """All that is kept under that name, marks too."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=name)
        return [
            kept["VersionId"]
            for page in pages
            for kept in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            if kept["Key"] == name
        ]

    def url(self, bucket: str, key: str, *, how: Literal["public", "signed"], holds: int, seconds: float) -> str:
        """See `Bucket.url`. Made here, without asking: it runs out earlier where the credentials that signed it do."""
        split_key(key)
        what = {"Bucket": self.bucket, "Key": f"{self.prefix}{check_bucket(bucket)}/{key}"}
        with self._asking(seconds):
            signed: str = self._client.generate_presigned_url("get_object", Params=what, ExpiresIn=holds)
        return signed if how == "signed" else signed.partition("?")[0]

    def missing(self, buckets: Sequence[str], *, seconds: float) -> list[str]:
        """None, as job buckets are only prefixes here. Raises like `put` where S3's own bucket is missing."""
        with self._asking(seconds):
            self._client.head_bucket(Bucket=self.bucket)
        return []

    @contextmanager
    def _asking(self, seconds: float, *, most: int = ANSWER_BYTES) -> Iterator[None]:
        with self._wire.within(seconds, most=most):
            try:
                yield
            except ClientError as error:
                raise self._problem(error) from error
            except ResponseParserError as error:
                raise TryAgain(f"{self._wire.name}: the answer is not S3's", error_type="StorageError") from error
            except BotoCoreError as error:  # no credentials, half of them, a profile that is not there …
                raise Misconfigured(
                    f"{self._wire.name} cannot be asked: {type(error).__name__}", error_type="StorageUnwritable"
                ) from error

    def _problem(self, error: ClientError) -> StageEnds:
        """By status and code alone: messages of S3 repeat what was signed."""
        answer: dict[str, Any] = dict(error.response)
        metadata = answer.get("ResponseMetadata", {})
        code = printable(answer.get("Error", {}).get("Code"), most=60)
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(metadata.get("HTTPHeaders", {}))
        status = int(metadata.get("HTTPStatusCode", 500))
        return verdict(self._wire.name, status, "" if code == str(status) else code, "", headers)

    def _send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """Instead of botocore's own sending: what was signed goes out as it is."""
        prepared = requests.PreparedRequest()
        prepared.prepare_hooks(None)
        prepared.method, prepared.url = request.method, request.url
        prepared.headers = CaseInsensitiveDict({name: _text(value) for name, value in request.headers.items()})
        prepared.headers.pop("Expect", None)  # not signed, and nobody here waits for a 100
        prepared.headers["Connection"] = "close"
        # In one piece: of a file each block would be sent with a time limit of its own.
        prepared.body = request.body.read() if hasattr(request.body, "read") else request.body
        reply = self._wire.send(prepared)
        if 300 <= reply.status < 400 or (request.method == "HEAD" and reply.status >= 400):
            # botocore would ask around for the right region, and where it hears the same again, without an end.
            raise verdict(self._wire.name, reply.status, "", "", reply.headers)
        return AWSResponse(request.url, reply.status, reply.headers, _Raw(reply.body))


class _Raw(io.BytesIO):
    """An answer's body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value

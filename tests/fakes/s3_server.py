"""An S3-compatible store on loopback, as far as documents need one. It refuses what is not signed with its key.

PUT, GET, HEAD, DELETE, ListObjectsV2 and multipart uploads, by path-style addresses. Signatures are those of AWS
Signature Version 4, worked out here from the published description.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from urllib.parse import quote
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.factories.served import served

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
REGION = "us-east-1"


@dataclass
class StoredBytes:
    content: bytes
    modified_at: datetime


@dataclass
class S3Server:
    """`objects` by key, `requests` as (method, path). `failures` answers that many requests with 503 first."""

    bucket: str = "documents"
    url: str = ""
    objects: dict[str, StoredBytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: int = 0
    _ids: Iterator[int] = field(default_factory=count)

    @contextlib.contextmanager
    def running(self) -> Iterator[S3Server]:
        with served(self) as self.url:
            yield self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            response = self._answer(request, await request.body())
            await response(scope, receive, send)
            return
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    def _answer(self, request: Request, body: bytes) -> Response:
        self.requests.append((request.method, request.url.path))
        if self.failures:
            self.failures -= 1
            return _error(503, "SlowDown")
        if not is_signed(request, body):
            return _error(403, "SignatureDoesNotMatch")
        bucket, _, key = request.url.path.removeprefix("/").partition("/")
        if bucket != self.bucket:
            return _error(404, "NoSuchBucket")
        query = request.query_params
        if request.method == "GET" and not key:
            return self._list(query.get("prefix", ""), int(query.get("max-keys", "1000")))
        if "uploads" in query or "uploadId" in query:
            return self._multipart(request.method, key, query, body)
        return self._object(request.method, key, body)

    def _object(self, method: str, key: str, body: bytes) -> Response:
        if method == "PUT":
            self.objects[key] = StoredBytes(body, datetime.now(UTC))
            return Response(headers={"ETag": _etag(body)})
        if method == "DELETE":
            self.objects.pop(key, None)
            return Response(status_code=204)
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        found = self.objects[key]
        headers = {
            "ETag": _etag(found.content),
            "Last-Modified": found.modified_at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        }
        return Response(found.content, headers=headers, media_type="application/octet-stream")

    def _multipart(self, method: str, key: str, query: Mapping[str, str], body: bytes) -> Response:
        if method == "POST" and "uploads" in query:
            upload = f"upload-{next(self._ids)}"
            self.uploads[upload] = {}
            inner = f"<Bucket>{self.bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            return _xml(f"<InitiateMultipartUploadResult>{inner}</InitiateMultipartUploadResult>")
        upload = query["uploadId"]
        if upload not in self.uploads:
            return _error(404, "NoSuchUpload")
        if method == "PUT":
            self.uploads[upload][int(query["partNumber"])] = body
            return Response(headers={"ETag": _etag(body)})
        parts = self.uploads.pop(upload)
        if method == "DELETE":
            return Response(status_code=204)
        content = b"".join(parts[number] for number in sorted(parts))
        self.objects[key] = StoredBytes(content, datetime.now(UTC))
        inner = f"<Bucket>{self.bucket}</Bucket><Key>{escape(key)}</Key><ETag>{_etag(content)}</ETag>"
        return _xml(f"<CompleteMultipartUploadResult>{inner}</CompleteMultipartUploadResult>")

    def _list(self, prefix: str, limit: int) -> Response:
        found = sorted(key for key in self.objects if key.startswith(prefix))[:limit]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key].content)}</Size>"
            f"<ETag>{_etag(self.objects[key].content)}</ETag>"
            f"<LastModified>{self.objects[key].modified_at.strftime('%Y-%m-%dT%H:%M:%S.000Z')}</LastModified></Contents>"
            for key in found
        )
        inner = f"<Name>{self.bucket}</Name><KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated>{contents}"
        return _xml(f"<ListBucketResult>{inner}</ListBucketResult>")


def is_signed(request: Request, body: bytes) -> bool:
    """Whether the request carries a signature made with our key over all that it says it signs, and the body."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    fields = dict(item.strip().split("=", 1) for item in rest.split(",") if "=" in item)
    if scheme != "AWS4-HMAC-SHA256" or not {"Credential", "SignedHeaders", "Signature"} <= set(fields):
        return False
    access_key, _, scope = fields["Credential"].partition("/")
    day, region, service, _ = scope.split("/")
    payload = request.headers["x-amz-content-sha256"]
    if (access_key, region, service) != (ACCESS_KEY, REGION, "s3"):
        return False
    if payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
        return False
    signed = fields["SignedHeaders"].split(";")
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in request.query_params.items()
    )
    canonical = "\n".join(
        [
            request.method,
            request.scope["raw_path"].decode(),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            payload,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, digest])
    key = f"AWS4{SECRET_KEY}".encode()
    for step in (day, region, service, "aws4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    return "host" in signed and hmac.compare_digest(expected, fields["Signature"])


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _xml(text: str, status: int = 200) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{text}', status_code=status, media_type="application/xml")


def _error(status: int, code: str) -> Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)

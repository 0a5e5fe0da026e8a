"""`s3+https://endpoint/bucket/prefix?region=…&lock_days=365&files=yes`: objects that nobody may delete before their time.

`lock_days` asks for S3 Object Lock in compliance mode, which the bucket must allow; `files=yes` also stores the log's own
files (`tile/…`), so that its entries outlive the server. Requests are signed by AWS Signature Version 4.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx2

from audit.errors import NotDelivered
from audit.publishing.place import TIMEOUT_S, Parcel, file_name
from audit.tiles import tile_paths


class S3Place:
    """endpoint: `https://host[:port]`; lock_days: 0 for none."""

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        prefix: str,
        region: str,
        lock_days: int,
        files: bool,
        access_key: str,
        secret_key: str,
        every_s: float,
    ) -> None:
        self.name = f"s3+{endpoint}/{bucket}/{prefix}".rstrip("/")
        self.endpoint = endpoint
        self.path = f"/{bucket}/{prefix.strip('/')}".rstrip("/")
        self.region = region
        self.lock_days = lock_days
        self.files = files
        self.access_key = access_key
        self.secret_key = secret_key
        self.every_s = every_s

    def deliver(self, parcel: Parcel) -> None:
        """Entries and tiles first, then the checkpoint that speaks for them.

        Raises:
            NotDelivered, OSError
        """
        with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
            if self.files:
                for path in tile_paths(parcel.since, parcel.size):
                    self._put(client, path, _file(parcel, path), parcel.at)
            self._put(client, f"checkpoints/{file_name(parcel)}", parcel.note.encode(), parcel.at)
            self._put(client, "checkpoint", parcel.note.encode(), parcel.at)

    def _put(self, client: httpx2.Client, key: str, data: bytes, at: datetime) -> None:
        headers = {"Content-MD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}
        if self.lock_days:
            until = at + timedelta(days=self.lock_days)
            headers["x-amz-object-lock-mode"] = "COMPLIANCE"
            headers["x-amz-object-lock-retain-until-date"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        url = f"{self.endpoint}{quote(f'{self.path}/{key}')}"
        signed = self.signed("PUT", url, headers, data, datetime.now(UTC))
        try:
            answer = client.put(url, content=data, headers=signed)
        except httpx2.HTTPError as error:
            raise NotDelivered(f"{self.name} does not answer: {error}") from None
        if not answer.is_success:
            raise NotDelivered(f"{self.name} answered {answer.status_code} for {key}: {answer.text[:200]}")

    def signed(self, method: str, url: str, headers: Mapping[str, str], data: bytes, now: datetime) -> dict[str, str]:
        """The headers with those of AWS Signature Version 4 for the service `s3`."""
        parsed = httpx2.URL(url)
        moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        digest = hashlib.sha256(data).hexdigest()
        named = {
            **{name.lower(): value for name, value in headers.items()},
            "host": parsed.netloc.decode(),
            "x-amz-content-sha256": digest,
            "x-amz-date": moment,
        }
        names = ";".join(sorted(named))
        lines = "".join(f"{name}:{named[name].strip()}\n" for name in sorted(named))
        request = "\n".join([method, parsed.raw_path.decode().partition("?")[0], "", lines, names, digest])
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = f"AWS4{self.secret_key}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return {
            **headers,
            "x-amz-content-sha256": digest,
            "x-amz-date": moment,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}",
        }


def _file(parcel: Parcel, path: str) -> bytes:
    """A file of the log; the full one begins with what a partial one held that is gone."""
    try:
        return (parcel.folder / path).read_bytes()
    except FileNotFoundError:
        raise NotDelivered(f"{path} is not there any more; the next checkpoint has what follows it.") from None

"""AUDIT_PUBLISH_TO: an address for each place."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
from django.conf import settings

from audit.errors import NotDelivered
from audit.publishing.file import FilePlace
from audit.publishing.git import GitPlace
from audit.publishing.mail import MailPlace
from audit.publishing.place import Place
from audit.publishing.s3 import S3Place
from audit.publishing.webhook import WebhookPlace


def configured_places() -> list[Place]:
    """Raises NotDelivered: an address is malformed."""
    return [place(address, settings.AUDIT_PUBLISH_EVERY_S) for address in dict.fromkeys(settings.AUDIT_PUBLISH_TO)]


def place(address: str, every_s: float) -> Place:
    """The place at an address; raises NotDelivered where it is malformed."""
    try:
        return _place(address, every_s)
    except (ValueError, httpx2.InvalidURL):
        raise NotDelivered("AUDIT_PUBLISH_TO: an address is malformed.") from None


def _place(address: str, every_s: float) -> Place:
    parts = urlsplit(address)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    match parts.scheme:
        case "file" if parts.path.startswith("/"):
            return FilePlace(Path(parts.path), every_s)
        case "git" if parts.path.startswith("/"):
            return GitPlace(Path(parts.path), query.get("remote", ""), every_s)
        case "mailto" if "@" in parts.path:
            return MailPlace(parts.path)
        case "http" | "https" if parts.netloc:
            return WebhookPlace(address, every_s)
        case "s3+http" | "s3+https" if parts.netloc and query.get("lock_days", "0").isdecimal():
            bucket, _, prefix = parts.path.strip("/").partition("/")
            if bucket and settings.AUDIT_S3_ACCESS_KEY and settings.AUDIT_S3_SECRET_KEY:
                return S3Place(
                    endpoint=f"{parts.scheme.removeprefix('s3+')}://{parts.netloc}",
                    bucket=bucket,
                    prefix=prefix,
                    region=query.get("region", "us-east-1"),
                    lock_days=int(query.get("lock_days", "0")),
                    files=query.get("files") == "yes",
                    access_key=settings.AUDIT_S3_ACCESS_KEY,
                    secret_key=settings.AUDIT_S3_SECRET_KEY,
                    every_s=every_s,
                )
            raise NotDelivered(
                "A bucket needs its name in AUDIT_PUBLISH_TO, AUDIT_S3_ACCESS_KEY and AUDIT_S3_SECRET_KEY."
            )
    raise NotDelivered(f"AUDIT_PUBLISH_TO: {parts.scheme}:… is no address of a place that checkpoints can be sent to.")

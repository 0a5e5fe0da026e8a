"""`https://example.org/hook`: a POST of `{"origin", "size", "root", "note"}`. The note is signed, so the request is not."""

import base64

import httpx2

from audit.errors import NotDelivered
from audit.publishing.place import TIMEOUT_S, Parcel


class WebhookPlace:
    def __init__(self, url: str, every_s: float) -> None:
        parsed = httpx2.URL(url)
        self.name = f"{parsed.scheme}://{parsed.netloc.decode().rpartition('@')[2]}{parsed.path}"
        self.url = url
        self.every_s = every_s

    def deliver(self, parcel: Parcel) -> None:
        """Raises NotDelivered."""
        content = {
            "origin": parcel.origin,
            "size": parcel.size,
            "root": base64.b64encode(parcel.root).decode(),
            "note": parcel.note,
        }
        try:
            answer = httpx2.post(self.url, json=content, timeout=TIMEOUT_S, follow_redirects=False)
        except httpx2.HTTPError as error:
            raise NotDelivered(f"{self.name} does not answer: {error}") from None
        if not answer.is_success:
            raise NotDelivered(f"{self.name} answered {answer.status_code}.")

"""`mailto:auditor@example.org`: the checkpoint in a mail, once a day. A mailbox is a witness that needs no server."""

from smtplib import SMTPException

from django.core.mail import EmailMessage

from audit.errors import NotDelivered
from audit.publishing.place import Parcel

DAY_S = 86_400.0


class MailPlace:
    every_s = DAY_S

    def __init__(self, address: str) -> None:
        self.name = f"mailto:{address}"
        self.address = address

    def deliver(self, parcel: Parcel) -> None:
        """Raises NotDelivered, OSError."""
        body = (
            f"The audit log {parcel.origin} holds {parcel.size} records. Keep this mail: the log can be compared with it "
            f"for ever after.\n\n{parcel.note}"
        )
        message = EmailMessage(f"Audit log {parcel.origin}: {parcel.size} records", body, to=[self.address])
        message.attach(f"checkpoint-{parcel.size}", parcel.note, "text/plain")
        try:
            message.send()
        except SMTPException as error:
            raise NotDelivered(f"The mail was not taken: {error}") from None

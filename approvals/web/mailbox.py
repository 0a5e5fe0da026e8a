"""The development mailbox: mails that no server took, as they would have been read."""

import re
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from approvals.models import MailboxMessage
from approvals.web.responses import private

SHOWN = 200
# No script, no form, nothing from elsewhere; a link opens in the window, for a click only.
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; sandbox allow-top-navigation-by-user-activation"
)


@require_safe
@private("same-origin")
@login_required
def mailbox(request: HttpRequest) -> HttpResponse:
    """The latest mails. Staff see all, others what was sent to their address."""
    return render(request, "approvals/mailbox.html", {"mails": _mails(request.user)[:SHOWN]})


@require_safe
@private("same-origin")
@login_required
def mail(request: HttpRequest, message_id: UUID) -> HttpResponse:
    """One mail: its text, the links of ours in it, and its HTML in a frame that runs nothing."""
    found = get_object_or_404(_mails(request.user), pk=message_id)
    ours = re.findall(re.escape(settings.PUBLIC_URL) + r"(/a/[A-Za-z0-9_-]{43}/)", found.text)
    return render(request, "approvals/mail.html", {"mail": found, "links": list(dict.fromkeys(ours))})


@require_safe
@xframe_options_sameorigin
@private("no-referrer")
@login_required
def mail_html(request: HttpRequest, message_id: UUID) -> HttpResponse:
    """The mail's HTML alone, under a policy of its own."""
    found = get_object_or_404(_mails(request.user), pk=message_id)
    return HttpResponse(found.html, headers={"Content-Security-Policy": MAIL_POLICY})


def _mails(user: AbstractBaseUser | AnonymousUser) -> QuerySet[MailboxMessage]:
    """Raises Http404 where mails go to a real server."""
    if not settings.MAILBOX_ENABLED:
        raise Http404("Mails are sent by a real server.")
    assert isinstance(user, User)
    mails = MailboxMessage.objects.defer("source")
    if user.is_staff:
        return mails
    return mails.filter(recipients__contains=[user.email]) if user.email else mails.none()

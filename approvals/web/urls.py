"""Pages of this app, from the root."""

from django.urls import path

from approvals.web import mailbox, slack, views

urlpatterns = [
    path("approvals/", views.inbox, name="approvals"),
    path("approvals/<uuid:request_id>/", views.approval, name="approval"),
    path("approvals/<uuid:request_id>/status/", views.status, name="approval-status"),
    path("a/<str:token>/", views.link, name="approval-link"),
    path("slack/interactivity/", slack.interactivity, name="slack-interactivity"),
    path("slack/", slack.accounts, name="slack-accounts"),
    path("slack/link/<str:token>/", slack.link, name="slack-link"),
    path("slack/unlink/<uuid:identity_id>/", slack.unlink, name="slack-unlink"),
    path("mailbox/", mailbox.mailbox, name="mailbox"),
    path("mailbox/<uuid:message_id>/", mailbox.mail, name="mail"),
    path("mailbox/<uuid:message_id>/html/", mailbox.mail_html, name="mail-html"),
]

"""Pages of this app, from the root."""

from django.urls import path

from approvals.web import acting, away, emergencies, figures, granted, inbox, mailbox, slack, views

urlpatterns = [
    path("approvals/", inbox.inbox, name="approvals"),
    path("approvals/grants/", granted.grants, name="grants"),
    path("approvals/grants/<uuid:grant_id>/revoke/", granted.revoke, name="revoke-grant"),
    path("approvals/deputies/", away.deputies, name="deputies"),
    path("approvals/deputies/<uuid:delegation_id>/end/", away.revoke, name="end-deputy"),
    path("approvals/reviews/", emergencies.reviews, name="reviews"),
    path("approvals/reviews/<uuid:glass_id>/", emergencies.review, name="review"),
    path("approvals/rules/", figures.rules, name="rules"),
    path("approvals/<uuid:request_id>/", views.approval, name="approval"),
    path("approvals/<uuid:request_id>/status/", views.status, name="approval-status"),
    path("approvals/<uuid:request_id>/edit/", acting.edit, name="edit-request"),
    path("approvals/<uuid:request_id>/ask/", acting.ask, name="ask-back"),
    path("approvals/<uuid:request_id>/questions/<uuid:comment_id>/", acting.answer, name="answer-question"),
    path("approvals/<uuid:request_id>/take-back/", acting.take_back, name="take-back"),
    path("approvals/<uuid:request_id>/together/", acting.together, name="together"),
    path("approvals/<uuid:request_id>/grant/", granted.give, name="give-grant"),
    path("approvals/<uuid:request_id>/break-glass/", emergencies.break_glass, name="break-glass"),
    path("a/<str:token>/", views.link, name="approval-link"),
    path("slack/interactivity/", slack.interactivity, name="slack-interactivity"),
    path("slack/", slack.accounts, name="slack-accounts"),
    path("slack/link/<str:token>/", slack.link, name="slack-link"),
    path("slack/unlink/<uuid:identity_id>/", slack.unlink, name="slack-unlink"),
    path("mailbox/", mailbox.mailbox, name="mailbox"),
    path("mailbox/<uuid:message_id>/", mailbox.mail, name="mail"),
    path("mailbox/<uuid:message_id>/html/", mailbox.mail_html, name="mail-html"),
]

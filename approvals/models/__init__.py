"""Policies by version, requests to people, their votes, links and notifications."""

from approvals.models.freeze import FreezeWindow
from approvals.models.message import ApprovalLink, MailboxMessage, Notification
from approvals.models.people import ChannelIdentity, Delegation, Grant, SeenSignature
from approvals.models.policy import Policy, PolicyRule, PolicyVersion, RuleApprovers, ShadowDecision
from approvals.models.request import ApprovalRequest, BreakGlass, Comment, Vote

__all__ = [
    "ApprovalLink",
    "ApprovalRequest",
    "BreakGlass",
    "ChannelIdentity",
    "Comment",
    "Delegation",
    "FreezeWindow",
    "Grant",
    "MailboxMessage",
    "Notification",
    "Policy",
    "PolicyRule",
    "PolicyVersion",
    "RuleApprovers",
    "SeenSignature",
    "ShadowDecision",
    "Vote",
]

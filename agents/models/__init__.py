"""Rows of the agents app, by noun."""

from agents.models.agent import Agent, AgentVersion, Repository, RepositoryLogin, Team, TeamMember
from agents.models.chat import Conversation, ConversationLink
from agents.models.endpoint import Capability, ModelEndpoint, ModelRoute, RouteEntry
from agents.models.evaluation import Evaluation, Trial
from agents.models.evolution import Candidate
from agents.models.feed import ArchivedLog, FeedEntry
from agents.models.job import Job
from agents.models.llm import CachedAnswer, LlmCall
from agents.models.mapitem import MapItem
from agents.models.memory import Memory
from agents.models.plan import Plan
from agents.models.prompt import Feedback, Prompt, PromptUse, PromptVersion
from agents.models.step import Attempt, Step
from agents.models.tenant import FairQueue, RateBucket, RateLimit, Tenant
from agents.models.token import ApiToken
from agents.models.trigger import (
    EventMatch,
    EventRule,
    Schedule,
    TriggerEvent,
    TriggerRun,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
)
from agents.models.worker import Canary, Duty, Handling, WorkerProcess
from agents.models.workflow import Workflow, WorkflowVersion

__all__ = [
    "Agent",
    "AgentVersion",
    "ApiToken",
    "ArchivedLog",
    "Attempt",
    "CachedAnswer",
    "Canary",
    "Candidate",
    "Capability",
    "Conversation",
    "ConversationLink",
    "Duty",
    "Evaluation",
    "EventMatch",
    "EventRule",
    "FairQueue",
    "FeedEntry",
    "Feedback",
    "Handling",
    "Job",
    "LlmCall",
    "MapItem",
    "Memory",
    "ModelEndpoint",
    "ModelRoute",
    "Plan",
    "Prompt",
    "PromptUse",
    "PromptVersion",
    "RateBucket",
    "RateLimit",
    "Repository",
    "RepositoryLogin",
    "RouteEntry",
    "Schedule",
    "Step",
    "Team",
    "TeamMember",
    "Tenant",
    "Trial",
    "TriggerEvent",
    "TriggerRun",
    "Webhook",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookMessage",
    "WorkerProcess",
    "Workflow",
    "WorkflowVersion",
]

"""URLs under /api/v1/."""

from django.urls import path

from agents.api import openapi, triggers  # noqa: F401  its extensions must be known before the OpenAPI document is made
from agents.api.agents import AgentDetail, AgentVersionDetail, AgentVersionList, TeamList
from agents.api.artifacts import ArtifactContent, ArtifactDetail, ArtifactList
from agents.api.catalogue import AgentList, Me, ModelList, RepositoryList, ToolList
from agents.api.chats import ChatDetail, ChatJobs, ChatLinkDetail, ChatLinks, ChatList, JobStream, TurnList
from agents.api.evaluations import EvaluationCancel, EvaluationDetail, EvaluationList, JobFeedback, PromptList
from agents.api.items import ItemList
from agents.api.jobs import JobCancel, JobDetail, JobFork, JobList, JobPause, JobResume, JobRetry, JobShare
from agents.api.memories import MemoryDetail, MemoryList, MemorySearch
from agents.api.plans import PlanList
from agents.api.steps import EventList, StepDetail, StepList, StepResolve
from agents.api.tenants import TenantDetail, TenantList
from agents.api.undoing import JobStopUndoing
from agents.api.workflows import (
    VersionDetail,
    VersionList,
    VersionPublish,
    VersionRetire,
    WorkflowDetail,
    WorkflowDiff,
    WorkflowList,
    WorkflowValidate,
)

urlpatterns = [
    path("jobs", JobList.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", JobDetail.as_view(), name="job"),
    path("jobs/<uuid:job_id>/steps", StepList.as_view(), name="steps"),
    path("jobs/<uuid:job_id>/steps/<str:key>", StepDetail.as_view(), name="step"),
    path("jobs/<uuid:job_id>/steps/<str:key>/items", ItemList.as_view(), name="step-items"),
    path("jobs/<uuid:job_id>/steps/<str:key>/resolve", StepResolve.as_view(), name="step-resolve"),
    path("jobs/<uuid:job_id>/events", EventList.as_view(), name="events"),
    path("jobs/<uuid:job_id>/plans", PlanList.as_view(), name="plans"),
    path("jobs/<uuid:job_id>/artifacts", ArtifactList.as_view(), name="artifacts"),
    path("jobs/<uuid:job_id>/artifacts/<uuid:artifact_id>", ArtifactDetail.as_view(), name="artifact"),
    path("jobs/<uuid:job_id>/artifacts/<uuid:artifact_id>/content", ArtifactContent.as_view(), name="artifact-content"),
    path("jobs/<uuid:job_id>/cancel", JobCancel.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/stop-undoing", JobStopUndoing.as_view(), name="job-stop-undoing"),
    path("jobs/<uuid:job_id>/pause", JobPause.as_view(), name="job-pause"),
    path("jobs/<uuid:job_id>/resume", JobResume.as_view(), name="job-resume"),
    path("jobs/<uuid:job_id>/retry", JobRetry.as_view(), name="job-retry"),
    path("jobs/<uuid:job_id>/fork", JobFork.as_view(), name="job-fork"),
    path("jobs/<uuid:job_id>/share", JobShare.as_view(), name="job-share"),
    path("jobs/<uuid:job_id>/feedback", JobFeedback.as_view(), name="job-feedback"),
    path("jobs/<uuid:job_id>/stream", JobStream.as_view(), name="job-stream"),
    path("chats", ChatList.as_view(), name="chats"),
    path("chats/<uuid:talk_id>", ChatDetail.as_view(), name="chat"),
    path("chats/<uuid:talk_id>/turns", TurnList.as_view(), name="chat-turns"),
    path("chats/<uuid:talk_id>/jobs", ChatJobs.as_view(), name="chat-jobs"),
    path("chats/<uuid:talk_id>/links", ChatLinks.as_view(), name="chat-links"),
    path("chats/<uuid:talk_id>/links/<uuid:link_id>", ChatLinkDetail.as_view(), name="chat-link"),
    path("tools", ToolList.as_view(), name="tools"),
    path("agents", AgentList.as_view(), name="agents"),
    path("agents/<str:name>", AgentDetail.as_view(), name="agent"),
    path("agents/<str:name>/versions", AgentVersionList.as_view(), name="agent-versions"),
    path("agents/<str:name>/versions/<int:number>", AgentVersionDetail.as_view(), name="agent-version"),
    path("teams", TeamList.as_view(), name="teams"),
    path("models", ModelList.as_view(), name="models"),
    path("memories", MemoryList.as_view(), name="memories"),
    path("memories/search", MemorySearch.as_view(), name="memory-search"),
    path("memories/<uuid:memory_id>", MemoryDetail.as_view(), name="memory"),
    path("prompts", PromptList.as_view(), name="prompts"),
    path("evaluations", EvaluationList.as_view(), name="evaluations"),
    path("evaluations/<uuid:evaluation_id>", EvaluationDetail.as_view(), name="evaluation"),
    path("evaluations/<uuid:evaluation_id>/cancel", EvaluationCancel.as_view(), name="cancel-evaluation"),
    path("repositories", RepositoryList.as_view(), name="repositories"),
    path("workflows", WorkflowList.as_view(), name="workflows"),
    path("workflows/validate", WorkflowValidate.as_view(), name="workflow-validate"),
    path("workflows/<str:name>", WorkflowDetail.as_view(), name="workflow"),
    path("workflows/<str:name>/diff", WorkflowDiff.as_view(), name="workflow-diff"),
    path("workflows/<str:name>/versions", VersionList.as_view(), name="workflow-versions"),
    path("workflows/<str:name>/versions/<int:number>", VersionDetail.as_view(), name="workflow-version"),
    path(
        "workflows/<str:name>/versions/<int:number>/publish", VersionPublish.as_view(), name="workflow-version-publish"
    ),
    path("workflows/<str:name>/versions/<int:number>/retire", VersionRetire.as_view(), name="workflow-version-retire"),
    path("schedules", triggers.ScheduleList.as_view(), name="schedules"),
    path("schedules/<uuid:pk>", triggers.ScheduleDetail.as_view(), name="schedule"),
    path("schedules/<uuid:pk>/runs", triggers.ScheduleRuns.as_view(), name="schedule-runs"),
    path("webhooks", triggers.WebhookList.as_view(), name="webhooks"),
    path("webhooks/<uuid:pk>", triggers.WebhookDetail.as_view(), name="webhook"),
    path("webhooks/<uuid:pk>/deliveries", triggers.WebhookDeliveries.as_view(), name="webhook-deliveries"),
    path("webhooks/<uuid:pk>/secret", triggers.WebhookRotate.as_view(), name="webhook-secret"),
    path("event-rules", triggers.EventRuleList.as_view(), name="event-rules"),
    path("event-rules/<uuid:pk>", triggers.EventRuleDetail.as_view(), name="event-rule"),
    path("event-rules/<uuid:pk>/runs", triggers.EventRuleRuns.as_view(), name="event-rule-runs"),
    path("events", triggers.TriggerEventList.as_view(), name="trigger-events"),
    path("webhook-endpoints", triggers.EndpointList.as_view(), name="webhook-endpoints"),
    path("webhook-endpoints/<uuid:pk>", triggers.EndpointDetail.as_view(), name="webhook-endpoint"),
    path("webhook-endpoints/<uuid:pk>/secret", triggers.EndpointRotate.as_view(), name="webhook-endpoint-secret"),
    path("webhook-endpoints/<uuid:pk>/messages", triggers.EndpointMessages.as_view(), name="webhook-messages"),
    path("webhook-messages/<uuid:pk>/replay", triggers.MessageReplay.as_view(), name="webhook-replay"),
    path("tenants", TenantList.as_view(), name="tenants"),
    path("tenants/<str:name>", TenantDetail.as_view(), name="tenant"),
    path("me", Me.as_view(), name="me"),
]

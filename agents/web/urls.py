"""URLs of the pages."""

from django.urls import path

from agents.web import agents, artifacts, chat, control, items, memory, models, plans, triggers, views, workflows
from agents.web.promptpaths import PATHS as PROMPTS
from agents.web.stream import stream

app_name = "web"

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("overview/", views.dashboard_part, name="overview"),
    path("jobs/", views.jobs, name="jobs"),
    path("jobs/new/", views.new_job, name="new-job"),
    path("jobs/<uuid:job_id>/", views.job, name="job"),
    path("jobs/<uuid:job_id>/fragment", views.fragment, name="fragment"),
    path("jobs/<uuid:job_id>/stream", stream, name="stream"),
    path("jobs/<uuid:job_id>/log.txt", views.raw_log, name="raw-log"),
    path("jobs/<uuid:job_id>/artifacts/<uuid:artifact_id>", artifacts.artifact, name="artifact"),
    path("jobs/<uuid:job_id>/plan/", plans.plan, name="plan"),
    path("jobs/<uuid:job_id>/cancel", views.cancel, name="cancel"),
    path("jobs/<uuid:job_id>/stop-undoing", control.stop, name="stop-undoing"),
    path("jobs/<uuid:job_id>/pause", control.pause, name="pause"),
    path("jobs/<uuid:job_id>/resume", control.resume, name="resume"),
    path("jobs/<uuid:job_id>/retry", control.retry, name="retry"),
    path("jobs/<uuid:job_id>/steps/<str:key>/items/", items.items, name="items"),
    path("jobs/<uuid:job_id>/steps/<str:key>/fork", control.fork, name="fork"),
    path("jobs/<uuid:job_id>/steps/<str:key>/edit", control.edit, name="edit"),
    path("jobs/<uuid:job_id>/steps/<str:key>/settle", views.settle, name="settle"),
    path("workflows/", workflows.workflow_list, name="workflows"),
    path("workflows/describe", workflows.describe, name="describe-workflow"),
    path("workflows/new", workflows.edit, name="new-workflow"),
    path("workflows/<slug:name>/", workflows.workflow, name="workflow"),
    path("workflows/<slug:name>/edit", workflows.edit, name="edit-workflow"),
    path("workflows/<slug:name>/diff", workflows.compare, name="diff-workflow"),
    path("workflows/<slug:name>/<int:number>/", workflows.workflow, name="workflow-version"),
    path("workflows/<slug:name>/<int:number>/start", workflows.start, name="start-workflow"),
    path("workflows/<slug:name>/<int:number>/publish", workflows.publish, name="publish-workflow"),
    path("workflows/<slug:name>/<int:number>/retire", workflows.retire, name="retire-workflow"),
    path("agents/", agents.agents, name="agents"),
    path("agents/profiles/<slug:name>/", agents.agent, name="agent"),
    path("agents/models/", models.models, name="models"),
    path("agents/memory/", memory.memories, name="memories"),
    path("agents/memory/new", memory.new, name="new-memory"),
    path("agents/memory/<uuid:memory_id>/", memory.memory, name="memory"),
    path("agents/memory/<uuid:memory_id>/decide", memory.decide, name="decide-memory"),
    path("chat/", chat.chats, name="chats"),
    path("chat/shared/<str:secret>/", chat.shared, name="chat-shared"),
    path("chat/<uuid:talk_id>/", chat.chat, name="chat"),
    path("chat/<uuid:talk_id>/fragment", chat.fragment, name="chat-fragment"),
    path("chat/<uuid:talk_id>/say", chat.say, name="chat-say"),
    path("chat/<uuid:talk_id>/start", chat.start, name="chat-start"),
    path("chat/<uuid:talk_id>/answer", chat.answer, name="chat-answer"),
    path("chat/<uuid:talk_id>/stop", chat.stop, name="chat-stop"),
    path("chat/<uuid:talk_id>/change", chat.change, name="chat-change"),
    path("chat/<uuid:talk_id>/delete", chat.delete, name="chat-delete"),
    path("chat/<uuid:talk_id>/share", chat.share, name="chat-share"),
    path("chat/<uuid:talk_id>/links/<uuid:link_id>/revoke", chat.revoke, name="chat-revoke"),
    *PROMPTS,
    path("triggers/", triggers.triggers, name="triggers"),
    path("doubt/", control.doubts, name="doubts"),
    path("doubt/<uuid:step_id>", control.answer, name="answer"),
]

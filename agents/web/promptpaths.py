"""URLs of prompts, evaluations, feedback and searches."""

from django.urls import path

from agents.web import evaluations, prompts, searches

PATHS = [
    path("agents/prompts/", prompts.prompt_list, name="prompts"),
    path("agents/prompts/new", prompts.edit, name="new-prompt"),
    path("agents/prompts/<slug:name>/", prompts.prompt, name="prompt"),
    path("agents/prompts/<slug:name>/edit", prompts.edit, name="edit-prompt"),
    path("agents/prompts/<slug:name>/diff", prompts.compare, name="diff-prompt"),
    path("agents/prompts/<slug:name>/<int:number>/", prompts.prompt, name="prompt-version"),
    path("agents/prompts/<slug:name>/<int:number>/act", prompts.act, name="act-prompt"),
    path("agents/prompts/<slug:name>/<int:number>/try", prompts.try_out, name="try-prompt"),
    path("agents/evaluations/", evaluations.evaluation_list, name="evaluations"),
    path("agents/evaluations/new", evaluations.new, name="new-evaluation"),
    path("agents/evaluations/<uuid:evaluation_id>/", evaluations.evaluation, name="evaluation"),
    path("agents/evaluations/<uuid:evaluation_id>/cancel", evaluations.cancel, name="cancel-evaluation"),
    path("jobs/<uuid:job_id>/search", searches.search, name="search"),
    path("jobs/<uuid:job_id>/feedback", evaluations.thumb, name="feedback"),
]

"""Conversations: the list, one of them, what is said, and what others read by a link."""

import hashlib
import secrets
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST, require_safe

from agents.chat import links, selectors, turns
from agents.errors import AgentsError, InvalidInput, NotVisible
from agents.models import Agent, Conversation, Repository
from agents.payload import MAX_GOAL_CHARS
from agents.selectors import usable_agents, visible_repositories
from agents.submit import DEFAULT_AGENT
from agents.web import chatpage
from agents.web.views import page, who
from agents.web.words import ago, digits, readable
from approvals.decisions import decide
from approvals.errors import DecisionError
from approvals.models import ApprovalRequest
from approvals.selectors import visible_request

PAGE_SIZE = 30
BESIDE = 30  # conversations beside the open one
_ONCE_MAX = 64


class NewChat(forms.Form):
    """With whom, about which repository, and the first message."""

    message = forms.CharField(max_length=MAX_GOAL_CHARS, widget=forms.Textarea(attrs={"rows": 4}))
    agent = forms.ModelChoiceField(Agent.objects.none(), to_field_name="name", empty_label=None)
    repository = forms.ModelChoiceField(
        Repository.objects.none(), to_field_name="name", required=False, empty_label="none"
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["agent"].queryset = usable_agents()  # type: ignore[attr-defined]
        self.fields["agent"].initial = DEFAULT_AGENT
        self.fields["repository"].queryset = visible_repositories(user)  # type: ignore[attr-defined]
        for name, one in self.fields.items():
            if self.is_bound and name in self.errors:
                one.widget.attrs["aria-invalid"] = "true"

    def payload(self) -> dict[str, Any]:
        """The valid form as `agents.chat.payload.ChatInput` describes it."""
        data = self.cleaned_data
        made = {"message": data["message"], "agent": data["agent"].name}
        return {**made, "repository": data["repository"].name} if data["repository"] is not None else made


@page
def chats(request: HttpRequest) -> HttpResponse:
    """The list; a POST begins a conversation."""
    user, now = who(request), timezone.now()
    form, status = NewChat(request.POST if request.method == "POST" else None, user=user), 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                job, _ = turns.begin(
                    form.payload(), user=user, now=now, key=_key(request, form.cleaned_data["message"])
                )
                return redirect(f"/chat/{job.conversation_id}/#end")
            except InvalidInput as error:
                for name, text in error.problems:
                    form.add_error(name if name in form.fields else None, text)
            except AgentsError as error:
                form.add_error(None, error.message)
    text = request.GET.get("q", "").replace("\x00", "")[:200].strip()
    kept = request.GET.get("archived") == "yes"
    talks = selectors.visible_conversations(user).filter(owner=user, archived_at__isnull=not kept)
    found = selectors.search(talks, text) if text else talks
    current = Paginator(found.order_by("-said_at"), PAGE_SIZE).get_page(request.GET.get("page"))
    lines = [
        {
            "talk": talk,
            "title": readable(talk.title) or "A conversation",
            "age": ago(talk.said_at, now),
            "excerpt": readable(selectors.excerpt(talk, text)) if text else "",
        }
        for talk in current.object_list
    ]
    context = {"form": form, "lines": lines, "current": current, "q": text, "archived": kept, "once": _once()}
    return render(request, "chat/list.html", context, status=status)


@page
@require_safe
def chat(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    user, now = who(request), timezone.now()
    talk = selectors.visible_conversation(user, talk_id)
    return _shown(request, talk, user, now=now)


@page
@require_GET
def fragment(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """The turns from a given one on, which the page puts in the place of its own."""
    user = who(request)
    talk = selectors.visible_conversation(user, talk_id)
    try:
        since = UUID(request.GET.get("from", ""))
    except ValueError:
        return HttpResponse("`from` must be the id of a turn.", status=400, content_type="text/plain")
    return render(request, "chat/_turns.html", {"page": chatpage.page_of(talk, user, now=timezone.now(), since=since)})


@page
@require_POST
def say(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """The next message; with `as=job` it is a job's goal instead."""
    user, now = who(request), timezone.now()
    talk = selectors.own_conversation(user, talk_id)
    text = request.POST.get("message", "")
    try:
        if request.POST.get("as") == "job":
            turns.start_job(talk.pk, {"goal": text}, user=user, now=now, key=_key(request, text))
        else:
            turns.say(talk.pk, {"message": text}, user=user, now=now, key=_key(request, text))
    except AgentsError as error:
        status = 422 if isinstance(error, InvalidInput) else 409
        return _shown(request, talk, user, now=now, error=error.message, text=text, status=status)
    return redirect(f"{talk.get_absolute_url()}#end")


@page
@require_POST
def start(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """Makes a job of what the agent offered, as the person has it now."""
    user, now = who(request), timezone.now()
    talk = selectors.own_conversation(user, talk_id)
    try:
        key = chatpage.offer_key(UUID(request.POST.get("offer", "")))
    except ValueError:
        return HttpResponse("`offer` must be the id of a step.", status=400, content_type="text/plain")
    payload = {name: request.POST[name] for name in ("goal", "agent", "repository") if request.POST.get(name)}
    if not talk.jobs.filter(idempotency_key=key).exists():
        try:
            turns.start_job(talk.pk, payload, user=user, now=now, key=key)
        except AgentsError as error:
            messages.warning(request, error.message)
    return redirect(f"{talk.get_absolute_url()}#end")


@page
@require_POST
def answer(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """Answers what a job asks; whoever may answer it elsewhere may do so here."""
    user = who(request)
    talk = selectors.visible_conversation(user, talk_id)
    try:
        asked = visible_request(user, UUID(request.POST.get("request", "")))
        if asked.kind != ApprovalRequest.Kind.QUESTION:
            raise NotVisible("This is no question.")
        reason = request.POST.get("answer", "")
        decide(request_id=asked.pk, by=user, verdict="answer", reason=reason, channel="page", now=timezone.now())
    except ValueError:
        return HttpResponse("`request` must be the id of a request.", status=400, content_type="text/plain")
    except DecisionError as error:
        messages.warning(request, error.message)
    return redirect(f"{talk.get_absolute_url()}#end")


@page
@require_POST
def stop(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """Cancels the turn that the agent is at."""
    turns.stop(talk_id, user=who(request), now=timezone.now())
    return redirect(f"/chat/{talk_id}/#end")


@page
@require_POST
def change(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """Renames it, or puts it out of the list and back."""
    user, now = who(request), timezone.now()
    talk = selectors.own_conversation(user, talk_id)
    given: dict[str, Any] = {}
    if "title" in request.POST:
        given["title"] = request.POST["title"].strip()[:200]
    if "archived" in request.POST:
        given["archived"] = request.POST["archived"] == "yes"
    try:
        talk = turns.change(talk.pk, given, user=user, now=now)
    except AgentsError as error:
        messages.warning(request, error.message)
    return redirect("web:chats" if given.get("archived") else talk)


@page
def delete(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """Says what deleting it does; a POST does it."""
    user, now = who(request), timezone.now()
    if request.method == "POST":
        turns.delete(talk_id, user=user, now=now)
        messages.success(request, "The conversation is deleted. Its turns and jobs stay as jobs.")
        return redirect("web:chats")
    talk = selectors.own_conversation(user, talk_id)
    title = readable(talk.title) or "A conversation"
    return render(request, "chat/delete.html", {"talk": talk, "title": title, "stays": selectors.kept(talk, now=now)})


@page
@require_POST
def share(request: HttpRequest, talk_id: UUID) -> HttpResponse:
    """Makes a link, and shows its address: once."""
    user, now = who(request), timezone.now()
    talk = selectors.own_conversation(user, talk_id)
    days = request.POST.get("days", "30")
    payload = {"shows": request.POST.get("shows", "now"), "days": None if days == "none" else digits(days) or 0}
    try:
        _, address = links.make(talk, payload, by=user, now=now)
    except AgentsError as error:
        return _shown(request, talk, user, now=now, error=error.message)
    return _shown(request, talk, user, now=now, address=address, status=201)


@page
@require_POST
def revoke(request: HttpRequest, talk_id: UUID, link_id: UUID) -> HttpResponse:
    user = who(request)
    talk = selectors.own_conversation(user, talk_id)
    links.revoke(talk, link_id, by=user, now=timezone.now())
    messages.success(request, "The link is revoked: it finds nothing any more.")
    return redirect(talk)


@page
@require_safe
def shared(request: HttpRequest, secret: str) -> HttpResponse:
    """What a link shows to who is signed in. Looking changes nothing but the count of its readers."""
    user, now = who(request), timezone.now()
    link = links.open_link(secret, by=user, now=now)
    talk = link.conversation
    context = {
        "talk": talk,
        "title": readable(talk.title) or "A conversation",
        "turns": chatpage.shared_turns(talk, until=link.until, now=now),
        "link": link,
    }
    response = render(request, "chat/shared.html", context)
    response["Referrer-Policy"] = "no-referrer"
    return response


def _shown(
    request: HttpRequest,
    talk: Conversation,
    user: User,
    *,
    now: Any,
    error: str = "",
    text: str = "",
    address: str = "",
    status: int = 0,
) -> HttpResponse:
    shown = chatpage.page_of(talk, user, now=now, everything=request.GET.get("all") == "yes")
    beside = selectors.visible_conversations(user).filter(owner=user, archived_at=None)[:BESIDE]
    context = {
        "page": shown,
        "talk": talk,
        "beside": [(one, readable(one.title) or "A conversation") for one in beside],
        "links": selectors.holding(now).filter(conversation=talk) if shown.own else [],
        "error": error,
        "text": text,
        "address": address,
        "once": _once(),
    }
    return render(request, "chat/chat.html", context, status=status or (409 if error else 200))


def _once() -> str:
    return secrets.token_urlsafe(16)


def _key(request: HttpRequest, text: str) -> str:
    """The same form sent twice says it once."""
    once = request.POST.get("once", "")[:_ONCE_MAX]
    whole = f"{once} {request.POST.get('as', '')} {text}"
    return f"chat-{hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()}" if once else ""

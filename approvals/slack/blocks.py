"""Block Kit. What others wrote stands in plain and preformatted text only, so that none of it is markup.

https://docs.slack.dev/reference/block-kit
"""

from collections.abc import Sequence
from typing import Any

from approvals.channels.base import Item, Kind
from approvals.channels.words import QUESTION, facts, outcome, subject
from approvals.models import ApprovalRequest, Vote
from approvals.slack.api import escaped, interactive
from approvals.visible import visible, visible_line

COMMAND_MAX = 2500  # Slack takes 3000 characters a text; the page shows it whole
LISTED_MAX = 300
FACT_MAX = 500
FACTS_MAX = 10  # of a section
ANSWER_MAX = 1500
REASON_MAX = 3000  # of a modal's text; a reason on the page may be longer
LEADS = {
    Kind.REMINDER: "Nobody has decided this yet, and its time runs out.",
    Kind.ESCALATION: "Those who were asked first have not decided: the next group may now too.",
}
Block = dict[str, Any]


def message(items: Sequence[Item], kind: str = Kind.REQUEST) -> dict[str, Any]:
    """`text` and `blocks` for requests as they stand now."""
    request = items[0].request
    if len(items) > 1:
        text, blocks = f"{len(items)} requests of one job, all alike", _several(items)
    elif kind in LEADS:
        text, blocks = f"{LEADS[Kind(kind)]} {subject(request)}", _pointer(LEADS[Kind(kind)], items[0])
    else:
        text, blocks = subject(request), _one(items[0])
    return {"text": escaped(visible_line(text, 300)), "blocks": blocks}


def deny_modal(value: str, request: ApprovalRequest) -> Block:
    """Asks for the reason. `private_metadata` carries which request, and which call of it, was shown."""
    return {
        "type": "modal",
        "callback_id": "deny",
        "private_metadata": value,
        "title": plain("Deny"),
        "submit": plain("Deny"),
        "close": plain("Back"),
        "blocks": [
            _command(request, LISTED_MAX),
            {
                "type": "input",
                "block_id": "reason",
                "label": plain("Why?"),
                "hint": plain("The agent reads it and looks for another way."),
                "element": {
                    "type": "plain_text_input",
                    "action_id": "reason",
                    "multiline": True,
                    "max_length": REASON_MAX,
                },
            },
        ],
    }


def decidable(request: ApprovalRequest) -> bool:
    """May a press decide it? High risk, what takes a second factor, and questions are for the page."""
    low = request.risk in ("low", "medium") and not request.second_factor
    return request.kind == ApprovalRequest.Kind.APPROVAL and low


def value_of(request: ApprovalRequest) -> str:
    """What a button carries: the request, and the digest of the call that was shown beside it."""
    return f"{request.pk}:{request.digest}"


def plain(text: str) -> Block:
    return {"type": "plain_text", "text": text or " ", "emoji": False}


def _one(item: Item) -> list[Block]:
    request = item.request
    fields = [plain(f"{label}: {value}"[:FACT_MAX]) for label, value in facts(request)][:FACTS_MAX]
    blocks = [
        {"type": "header", "text": plain(visible_line(request.title, 150))},
        _command(request, COMMAND_MAX),
    ]
    if request.kind == ApprovalRequest.Kind.APPROVAL:
        reasons = " ".join(visible_line(str(reason), 200) for reason in request.risk_reasons)
        blocks.append(_context(visible_line(f"{request.risk.capitalize()} risk. {reasons}", 1000)))
    blocks.append({"type": "section", "fields": fields})
    return [*blocks, *_end(item)]


def _end(item: Item) -> list[Block]:
    request = item.request
    if request.state != ApprovalRequest.State.PENDING:
        answer = visible(request.answer)[:ANSWER_MAX]
        ended = [_context(outcome(request))]
        return [*ended, _preformatted(answer)] if answer else ended
    voters = _voters(request)
    so_far = [_context(visible_line(f"Approved so far by {', '.join(voters)}.", 1000))] if voters else []
    return [*so_far, {"type": "actions", "elements": _buttons(item)}]


def _buttons(item: Item) -> list[Block]:
    request = item.request
    question = request.kind == QUESTION
    words = "Open and answer" if question else "Review and decide"
    page = _button("open", words, url=item.url)
    if not (interactive() and decidable(request)):
        return [{**page, "style": "primary"}]
    value = value_of(request)
    return [
        _button("approve", "Approve", value=value, style="primary"),
        _button("deny", "Deny …", value=value, style="danger"),
        page,
    ]


def _several(items: Sequence[Item]) -> list[Block]:
    request = items[0].request
    blocks: list[Block] = [
        {"type": "header", "text": plain(f"{len(items)} requests of one job, all alike")},
        _context(visible_line(f"{request.risk.capitalize()} risk, rule {request.rule}. Each is decided alone.", 1000)),
    ]
    for number, item in enumerate(items, start=1):
        one = item.request
        line: Block = {"type": "section", "text": plain(f"{number}. {visible_line(one.title, 200)}")}
        if one.state == ApprovalRequest.State.PENDING:
            line["accessory"] = _button(f"open:{number}", "Open", url=item.url)
            blocks += [line, _command(one, LISTED_MAX)]
        else:
            blocks += [line, _context(outcome(one))]
    return blocks[:50]


def _pointer(lead: str, item: Item) -> list[Block]:
    request = item.request
    return [
        {"type": "section", "text": plain(f"{lead} {visible_line(request.title, 200)}")},
        {"type": "actions", "elements": [_button("open", "Open", url=item.url)]},
    ]


def _command(request: ApprovalRequest, limit: int) -> Block:
    command = visible(request.command)
    if len(command) > limit:
        command = command[:limit] + "\n… the page shows the whole"
    return _preformatted(command)


def _preformatted(text: str) -> Block:
    element = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": text or " "}]}
    return {"type": "rich_text", "elements": [element]}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [plain(text)]}


def _button(action: str, words: str, **more: str) -> Block:
    return {"type": "button", "text": plain(words), "action_id": action, **more}


def _voters(request: ApprovalRequest) -> list[str]:
    votes = request.votes.filter(verdict=Vote.Verdict.APPROVE, withdrawn_at=None).select_related("user").order_by("at")
    return [visible_line(vote.user.get_username(), 60) for vote in votes]

"""Actions that are recorded as a person's doing. Whoever may run them here may act for anybody, and the log names whom."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from approvals import defaults
from approvals.errors import NotEligible
from approvals.management.policies.base import Action, Out, read, tell, version_of
from approvals.models import PolicyVersion
from approvals.people import acting_user
from approvals.policy import backtest, importing, rollback, shadow, versions

DRAFTS, PUBLISHES = "approvals.add_policyversion", "approvals.publish_policyversion"
DRAFT = "NAME for its newest draft; NAME@3 for a version"


class Import(Action):
    name = "import"
    help = "a draft from a YAML file, or from a pack"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("file", nargs="?", metavar="FILE")
        what.add_argument("--pack", metavar="NAME", help="one that comes with the server (see policy packs)")
        parser.add_argument("--name", metavar="NAME", help="of the policy, instead of the one in the file")
        parser.add_argument("--create-groups", action="store_true", help="make missing groups, without members")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        by = _person(options, DRAFTS)
        given: dict[str, Any] = {"by": by, "name": options["name"], "create_groups": options["create_groups"]}
        if options["pack"]:
            draft = importing.import_pack(options["pack"], **given)
        else:
            draft = importing.import_yaml(read(options["file"]), **given)
        found = versions.problems(draft)
        lines = [f"{draft} is a draft with {draft.rules.count()} rules."]
        lines += [
            f"  before it can be published: {f'rule {name}: ' if name else ''}{message}" for name, message in found
        ]
        tell(out, options, {"version": str(draft), "problems": found}, "\n".join(lines))
        return True


class Cover(Action):
    name = "cover"
    help = "a draft with rules for tools that no published rule names"
    by_person = True

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        names = defaults.uncovered()
        draft = defaults.draft_for_uncovered(_person(options, DRAFTS))
        told = f"{draft} is a draft with rules for {', '.join(names)}." if draft else "Every tool is named by a rule."
        tell(out, options, {"tools": names, "version": str(draft) if draft else None}, told)
        return True


class Backtest(Action):
    name = "backtest"
    help = "tries a draft on the decisions of the last days, and lists every flip"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=DRAFT)
        parser.add_argument("--days", type=int, default=30, metavar="N", help="default: 30")
        parser.add_argument("--fail-on-flip", action="store_true", help="exit with 1 where calls would be opened")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"], draft=True)
        backtest.start(version.pk, days=options["days"], by=_person(options, DRAFTS), now=timezone.now())
        backtest.run(version.pk, told=None if options["json"] else lambda state: _progress(out, state))
        version.refresh_from_db()
        state = version.backtest or {}
        lines = [f"{state['compared']} decisions of {options['days']} days, {state['same']} as they were."]
        for group in state["groups"]:
            lines.append(
                f"{group['flip']:<12} {group['count']:>6}  {group['tool']}: {group['was'] or '-'} -> {group['now'] or '-'}"
            )
            lines += [f"{'':<21}{one['command']} ({one['subject']})" for one in group["examples"][:3]]
        if backtest.must_acknowledge(version):
            lines.append("Calls that were denied would be allowed: acknowledge that before publishing.")
        tell(out, options, {"version": str(version), **state}, "\n".join(lines))
        return not (options["fail_on_flip"] and state["counts"].get(backtest.OPENING))


class Acknowledge(Action):
    name = "acknowledge"
    help = "answers by name for calls that were denied and would be allowed"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=DRAFT)
        parser.add_argument("--note", required=True, help="why these calls may run")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"], draft=True)
        backtest.acknowledge(version.pk, by=_person(options, PUBLISHES), note=options["note"], now=timezone.now())
        return _told(out, options, version, "is acknowledged")


class Shadow(Action):
    name = "shadow"
    help = "lets a draft run beside what is in force, or ends that"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=["start", "stop"])
        parser.add_argument("version", help=DRAFT)

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"], draft=True)
        by = _person(options, DRAFTS)
        if options["what"] == "start":
            shadow.start(version.pk, by=by, now=timezone.now())
            return _told(out, options, version, "runs in shadow")
        shadow.stop(version.pk, by=by)
        return _told(out, options, version, "runs in shadow no more")


class Propose(Action):
    name = "propose"
    help = "asks a second person to publish a draft"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=DRAFT)

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"], draft=True)
        versions.propose(version.pk, by=_person(options, DRAFTS), now=timezone.now())
        return _told(out, options, version, "is proposed")


class Publish(Action):
    name = "publish"
    help = "puts a draft in force, which somebody else proposed"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=DRAFT)

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"], draft=True)
        versions.publish(version.pk, by=_person(options, PUBLISHES), now=timezone.now())
        return _told(out, options, version, "is in force")


class Rollback(Action):
    name = "rollback"
    help = "back to an earlier version: a new one with its rules"
    by_person = True

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help="NAME@3: the version to go back to")
        parser.add_argument("--reason", default="", help="goes into the notes of the new version")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"])
        by = _person(options, PUBLISHES)
        found = rollback.roll_back(version.pk, by=by, reason=options["reason"], now=timezone.now())
        facts = {"version": str(found.version), "status": found.version.status, "missing": found.missing}
        lines = f"{found.version} is {'in force' if not found.missing else 'a draft'}."
        tell(out, options, facts, f"{lines} {found.missing}".strip())
        return not found.missing


def _person(options: dict[str, Any], permission: str) -> User:
    """Raises NotEligible."""
    user = acting_user(options["username"])
    if not user.has_perm(permission):
        raise NotEligible(f"{user.get_username()} lacks the permission {permission}.")
    return user


def _told(out: Out, options: dict[str, Any], version: PolicyVersion, words: str) -> bool:
    version.refresh_from_db()
    tell(out, options, {"version": str(version), "status": version.status}, f"{version} {words}.")
    return True


def _progress(out: Out, state: dict[str, Any]) -> None:
    if state.get("state") == "running":
        out.write(f"  {state['compared']} of about {state['total']} …")

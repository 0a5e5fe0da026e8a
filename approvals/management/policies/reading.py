"""Actions that change nothing."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.utils import timezone

from approvals.errors import InvalidTrial, UnknownPolicy
from approvals.management.policies.base import VERSION, Action, Out, read, tell, version_of
from approvals.models import Policy, PolicyVersion
from approvals.policy import calls, comparing, expectations, packs, recorded, simulate, yamlform

MARKS = {"decides": "=>", "matches": " +", "no": "  "}


class List(Action):
    name = "list"
    help = "every policy, what is in force, and its drafts"

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        facts = [_facts(policy) for policy in Policy.objects.order_by("name").prefetch_related("versions")]
        lines = [
            f"{one['policy']:<30} in force: {one['published'] or 'nothing':<8} "
            f"drafts: {', '.join(map(str, one['drafts'])) or '-'}"
            for one in facts
        ]
        tell(out, options, facts, "\n".join(lines) or "There is no policy: every call is denied.")
        return True


class Packs(Action):
    name = "packs"
    help = "the policies that come with the server; `policy import --pack NAME` makes a draft of one"

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        facts = [
            {"pack": one.name, "title": one.title, "rules": one.rules, "groups": list(one.groups)}
            for one in packs.every()
        ]
        lines = [
            f"{one.name:<24} {one.rules:>2} rules  asks {', '.join(one.groups) or 'nobody'}" for one in packs.every()
        ]
        tell(out, options, facts, "\n".join(lines))
        return True


class Export(Action):
    name = "export"
    help = "a version as YAML"

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=VERSION)
        parser.add_argument("--output", metavar="FILE", help="write there instead of printing")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"])
        text = yamlform.dump(version)
        if options["output"]:
            Path(options["output"]).write_text(text, encoding="utf-8")
        if options["json"]:
            out.write(json.dumps({"version": str(version), "yaml": text}))
        elif not options["output"]:
            out.write(text)
        return True


class Test(Action):
    name = "test"
    help = "tries a file's expectations on its rules, or on a version of this server; needs no database for the first"

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="*", metavar="FILE")
        parser.add_argument("--packs", action="store_true", help="the packs that come with the server")
        parser.add_argument("--version", metavar="NAME@N", help="try them on this version, beside what is published")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        sources = [(path, read(path)) for path in options["files"]]
        sources += [(f"pack {pack.name}", pack.source) for pack in packs.every()] if options["packs"] else []
        if not sources:
            raise ValueError("Name a file, or --packs.")
        version = version_of(options["version"]) if options["version"] else None
        facts, lines = [], []
        for label, source in sources:
            for one in self._results(source, version):
                facts.append(
                    {"file": label, "line": one.line, "name": one.name, "ok": one.ok, "wrong": one.wrong}
                    | {"effect": str(one.simulated.decision.effect), "rule": one.simulated.decision.rule}
                )
                lines.append(
                    f"{'ok  ' if one.ok else 'FAIL'} {label}:{one.line} {one.name}"
                    + (f": {one.wrong}" if one.wrong else "")
                )
        failed = sum(not one["ok"] for one in facts)
        lines.append(f"{len(facts)} expectations, {failed} failed." if facts else "There are no expectations to try.")
        tell(out, options, {"results": facts, "failed": failed}, "\n".join(lines))
        return bool(facts) and not failed

    def _results(self, source: str, version: PolicyVersion | None) -> list[expectations.Result]:
        file = yamlform.load(source)
        if version is not None:
            return expectations.run(file, by=lambda given: simulate.version(version, given))
        if file.rules is None:
            raise ValueError(f"The file has no rules: name the version to try with --version {file.policy}.")
        return expectations.run(file)


class Simulate(Action):
    name = "simulate"
    help = "what a version says of one call, and of each rule why"

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=VERSION)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--call", metavar="JSON", help='{"tool": "git.push", "arguments": {"branch": "main"}, …}')
        what.add_argument("--call-file", metavar="FILE", help="the same in a file")
        what.add_argument("--step", metavar="ID", help="a step of this server, as it was decided on")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"])
        found = simulate.version(version, _given(options))
        lines = [
            f"{found.decision.effect.upper()} by {found.decision.policy or 'no policy'} {found.decision.rule}".strip()
        ]
        lines += [f"  {found.decision.reason}"] if found.decision.reason else []
        lines.append(f"  risk {found.given.risk} ({found.given.risk_score})")
        for one in found.outcomes:
            lines.append(f"{MARKS[one.state]} {one.policy} {one.order:>4} {one.effect:<5} {one.rule}: {one.why}")
        tell(out, options, found.as_json(), "\n".join(lines))
        return True


class Diff(Action):
    name = "diff"
    help = "what changes from one version to another, or to what is in force"

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", help=VERSION)
        parser.add_argument("against", nargs="?", help="default: what is in force of the same policy")

    def run(self, out: Out, options: dict[str, Any]) -> bool:
        version = version_of(options["version"])
        against = version_of(options["against"] or version.policy.name)
        changes = comparing.changes(against, version)
        lines = [str(one) for one in changes] or ["Nothing differs."]
        tell(out, options, [one.as_json() for one in changes], "\n".join(lines))
        return True


def _given(options: dict[str, Any]) -> Any:
    if options["step"]:
        found = recorded.source().of([options["step"]])
        if not found:
            raise UnknownPolicy(f"There is no step {options['step'][:60]!r} that was decided on.")
        return found[0].inputs[0]
    text = options["call"] if options["call"] is not None else read(options["call_file"])
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTrial(f"The call is no JSON: {error}", field="call") from None
    if not isinstance(given, dict):
        raise InvalidTrial("The call must be an object.", field="call")
    return calls.made(given, now=timezone.now())


def _facts(policy: Policy) -> dict[str, Any]:
    versions = sorted(policy.versions.all(), key=lambda one: one.number)
    published = [one.number for one in versions if one.status == PolicyVersion.Status.PUBLISHED]
    return {
        "policy": policy.name,
        "published": f"@{published[0]}" if published else "",
        "drafts": [one.number for one in versions if one.status == PolicyVersion.Status.DRAFT],
        "versions": len(versions),
    }

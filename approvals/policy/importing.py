"""YAML into drafts."""

from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import transaction

from approvals.errors import InvalidPolicyFile
from approvals.models import Policy, PolicyVersion
from approvals.policy import packs, versions, yamlform
from audit.actor import Actor, Target
from audit.append import record
from audit.kinds import Event


@transaction.atomic
def import_yaml(source: str, *, by: User | None, name: str | None = None, create_groups: bool = False) -> PolicyVersion:
    """A new draft of the policy that the file names (or `name`), which is made where there is none. `by` None: the
    server itself. create_groups: groups that are missing are made, without members.

    Raises:
        InvalidPolicyFile: with every problem and its line.
    """
    file = yamlform.load(source)
    if file.rules is None:
        raise yamlform.invalid([file.places.problem((), "There are no rules in this file.")])
    wanted = file.groups()
    known = {group.name: group for group in Group.objects.filter(name__in=wanted)}
    if create_groups:
        for missing in sorted(wanted - set(known)):
            known[missing] = _made(missing, by=by)
    given = yamlform.resolved(file, known=known)
    policy, new = Policy.objects.get_or_create(
        name=name or file.policy, defaults={"description": file.description or ""}
    )
    if not new and file.description is not None and policy.description != file.description:
        Policy.objects.filter(pk=policy.pk).update(description=file.description)
    draft = versions.new_draft(policy, by=by, notes=file.notes)
    return versions.replace_rules(draft.pk, given, by=by)


@transaction.atomic
def replace_by_yaml(version_id: UUID, source: str, *, by: User) -> PolicyVersion:
    """Gives a draft the rules of a file, which must name its policy.

    Raises:
        InvalidPolicyFile: with every problem and its line.
        NotADraft, PolicyVersion.DoesNotExist
    """
    file = yamlform.load(source)
    version = PolicyVersion.objects.select_related("policy").get(pk=version_id)
    if file.policy != version.policy.name:
        raise yamlform.invalid([file.places.problem(("policy",), f"This is a draft of {version.policy.name!r}.")])
    if file.rules is None:
        raise yamlform.invalid([file.places.problem((), "There are no rules in this file.")])
    known = {group.name: group for group in Group.objects.filter(name__in=file.groups())}
    version = versions.replace_rules(version_id, yamlform.resolved(file, known=known), by=by)
    if version.notes != file.notes:
        version.notes = file.notes
        version.save(update_fields=["notes"])
    return version


def import_pack(pack: str, *, by: User | None, name: str | None = None, create_groups: bool = False) -> PolicyVersion:
    """A draft from a pack that the server brings. Raises UnknownPolicy, InvalidPolicyFile (a group is missing)."""
    return import_yaml(packs.named(pack).source, by=by, name=name, create_groups=create_groups)


def _made(name: str, *, by: User | None) -> Group:
    if len(name) > 150:
        raise InvalidPolicyFile(f"The name of a group is too long: {name[:40]}…", problems=[])
    group = Group.objects.create(name=name)
    record(
        Event.ADMIN_CHANGED,
        actor=Actor.system("policies") if by is None else Actor.user(by.pk),
        target=Target(type="group", id=str(group.pk)),
        context={"action": "created", "by": "import"},
    )
    return group

"""With which secret handle a job's repository is cloned: the repository's own, or its user's."""

import pytest
from django.contrib.auth.models import User

from agents.engine.origins import addresses, clone_arguments
from agents.models import Repository, RepositoryLogin
from tools import registry

pytestmark = pytest.mark.django_db


def test_a_user_s_own_handle_comes_before_the_repository_s():
    ada, bob = (User.objects.create_user(name) for name in ("ada-of-logins", "bob-of-logins"))
    url = "https://git.example.org/team/shop.git"
    shop = Repository.objects.create(name="shop-of-logins", url=url, owner=ada)
    plain = {"url": url, "branch": "main"}
    assert clone_arguments(shop, ada) == plain  # as before there were handles
    shop.credential, shop.hosting = "shop-robot", "gitea"
    shop.save()
    RepositoryLogin.objects.create(repository=shop, user=bob, credential="bob-at-git")
    assert clone_arguments(shop, ada) == {**plain, "credential": "shop-robot", "hosting": "gitea"}
    assert clone_arguments(shop, bob) == {**plain, "credential": "bob-at-git", "hosting": "gitea"}
    for owner in (ada, bob):
        registry.validate(registry.get("workspace.prepare"), clone_arguments(shop, owner))
    assert url in addresses()

"""Groups in Django admin: teams can be changed, roles can't."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.db.models import ProtectedError

from accounts.models import Role, Team

GROUPS = "/admin/auth/group/"


@pytest.mark.usually("sqlite")
@pytest.mark.slow
def test_a_role_is_neither_renamed_nor_changed_nor_deleted(people):
    before = list(Group.objects.order_by("pk").values_list("pk", "name", "permissions"))
    for role in Role.objects.all():
        page = f"{GROUPS}{role.group_id}/"
        form = {"name": "Renamed", "permissions": [Permission.objects.first().pk]}
        assert people.admin.client.get(f"{page}change/").status_code == 200
        assert people.admin.client.post(f"{page}change/", form).status_code == 403
        assert people.admin.client.post(f"{page}delete/", {"post": "yes"}).status_code == 403
        with pytest.raises(ProtectedError):
            role.group.delete()
    chosen = {"action": "delete_selected", "post": "yes", "_selected_action": [row[0] for row in before]}
    people.admin.client.post(GROUPS, chosen)
    assert list(Group.objects.order_by("pk").values_list("pk", "name", "permissions")) == before
    form = {"name": "South", "permissions": []}
    assert people.admin.client.post(f"{GROUPS}{people.east.pk}/change/", form).status_code == 302
    assert Team.objects.get(pk=people.east.pk).name == "South"


@pytest.mark.usually("sqlite")
def test_roles_are_named_in_the_readers_language(people):
    Group.objects.filter(role="viewer").update(name="Readers")
    pages = [GROUPS, f"/admin/auth/user/{people.mate.pk}/change/", "/admin/auth/user/"]
    for language, named in (("en", "Viewer"), ("zh-hans", "只读成员")):
        people.admin.client.cookies["django_language"] = language
        for page in pages:
            text = people.admin.client.get(page).content.decode()
            assert named in text and ">Readers<" not in text, page

"""Who is notified that WKTeam denies access is warned of the developer account's end too."""

from importlib import import_module

from django.apps import apps

from accounts.models import Channel, Rule

migration = import_module("accounts.migrations.0014_existing_rows")


def test_rules_about_denied_access_cover_the_developer_account(db):
    channel = Channel.objects.create(name="desk", url="json://127.0.0.1")
    for kinds in (["offline"], ["upstream", "plan"], ["upstream", "limits"]):
        Rule.objects.create(channel=channel, kinds=kinds)
    migration.warn_too(apps, None)
    assert list(Rule.objects.order_by("pk").values_list("kinds", flat=True)) == [
        ["offline"],
        ["upstream", "plan", "limits"],
        ["upstream", "limits"],
    ]

"""Groups that are roles, and groups that are teams."""

from django.contrib.auth.models import Group, GroupManager, Permission
from django.db import models
from django.utils.translation import gettext_lazy as _

from accounts.roles import GROUP_NAMES, PERMISSIONS, RoleCode


class Role(models.Model):
    """A role, and the group whose members have it. The name of the group says nothing: it may be any."""

    code = models.CharField(_("role"), max_length=20, primary_key=True, choices=RoleCode.choices)
    group = models.OneToOneField(Group, on_delete=models.PROTECT, related_name="role")

    class Meta:
        verbose_name = _("role")
        verbose_name_plural = _("roles")
        default_permissions = ()  # code alone makes and changes them

    def __str__(self) -> str:
        return self.get_code_display()


class TeamManager(GroupManager):
    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(role=None)


class Team(Group):
    """A group that is no role: its members see its accounts."""

    objects = TeamManager()

    class Meta:
        proxy = True
        default_permissions = ()  # those of groups
        verbose_name = _("team")
        verbose_name_plural = _("teams")


def complete_roles(using: str) -> None:
    """Make the roles that are missing, and let each have exactly the permissions of this app that code gives it."""
    for code, codenames in PERMISSIONS.items():
        role = Role.objects.using(using).select_related("group").filter(pk=code).first()
        group = role.group if role else _make_group(code, using)
        ours = Permission.objects.using(using).filter(content_type__app_label="accounts")
        wanted = ours.filter(codename__in=codenames)
        group.permissions.remove(*ours.filter(group=group).exclude(codename__in=codenames))
        group.permissions.add(*wanted.exclude(group=group))


def _make_group(code: RoleCode, using: str) -> Group:
    """Make a group. A team that has the name already stays a team."""
    groups = Group.objects.using(using)
    name = GROUP_NAMES[code]
    while groups.filter(name=name).exists():
        name = f"{name} (role)"
    group = groups.create(name=name)
    Role.objects.using(using).create(code=code, group=group)
    return group

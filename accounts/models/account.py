"""Accounts: their table, what can be asked of them, and the door through which their state changes."""

from datetime import datetime

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Concat, Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib.encrypted_fields import EncryptedTextField
from accounts.lib.lists.natural_order import KEY_LENGTH, natural_key
from accounts.lib.time_windows import TimeWindow
from accounts.models.account_queries import AccountQuerySet
from accounts.models.event import record
from accounts.models.login_attempt import LoginAttempt
from accounts.models.operators.assignable import UNASSIGNED, Assignable
from accounts.models.presence import Presence
from accounts.models.recovery_policy import RecoveryPolicy
from accounts.proxies import OWN, proxy_name
from accounts.states import AccountState, DetectedBy, EventType

PLACE_LENGTH = 80
_LINE_END = Value("\n")


def sort_keys(label: str, place: str) -> dict[str, str]:
    """Return the columns that follow from a label and a place, for writes that bypass `Account.save`."""
    return {
        "rack": place.partition("·")[0].strip(),
        "label_key": natural_key(label),
        "place_key": natural_key(place),
    }


class Tag(models.Model):
    name = models.CharField(_("name"), max_length=40, unique=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("tag")
        verbose_name_plural = _("tags")

    def __str__(self) -> str:
        return self.name


class Account(Assignable, TimeWindow):
    label = models.CharField(_("label"), max_length=100, help_text=_("Your own name for this account."))
    wc_id = models.CharField("wcId", max_length=100, null=True, blank=True, unique=True, default=None)
    w_id = models.CharField("wId", max_length=100, blank=True, default="")
    state = models.CharField(_("state"), max_length=10, choices=AccountState, default=AccountState.NEW)
    state_since = models.DateTimeField(_("since"), default=timezone.now)
    # Presence.checked_at may be later: last_checked() tells which one counts.
    checked_at = models.DateTimeField(_("last checked"), null=True, blank=True, db_column="verified_at")

    nickname = models.CharField(_("nickname"), max_length=100, blank=True, default="")
    wechat_id = models.CharField(
        _("WeChat ID"), max_length=100, blank=True, default="", db_column="wechat_number"
    )
    avatar_url = models.CharField(_("avatar URL"), max_length=500, blank=True, default="")
    sex = models.PositiveSmallIntegerField(_("gender"), null=True, blank=True)
    region = models.CharField(_("region"), max_length=101, blank=True, default="")
    signature = models.CharField(_("signature"), max_length=200, blank=True, default="")
    mobile = models.CharField(_("phone number"), max_length=30, blank=True, default="")

    # Where its phone is, such as "Rack 3 · Slot 10". The rack is the part before the first "·".
    place = models.CharField(
        _("place of the phone"), max_length=PLACE_LENGTH, blank=True, default="", db_default=""
    )
    rack = models.CharField(max_length=PLACE_LENGTH, blank=True, default="", db_default="", editable=False)
    # What lists are sorted by. `sort_keys` makes them of the label and the place.
    label_key = models.CharField(max_length=KEY_LENGTH, blank=True, default="", db_default="", editable=False)
    place_key = models.CharField(max_length=KEY_LENGTH, blank=True, default="", db_default="", editable=False)

    proxy = models.PositiveSmallIntegerField(_("proxy"), null=True, blank=True)
    # OwnProxy.stored(), which every login by QR code uses; null without one. One that no key decrypts reads as "".
    own_proxy = EncryptedTextField(_("own proxy"), null=True, blank=True, editable=False)
    tags = models.ManyToManyField(Tag, verbose_name=_("tags"), blank=True, related_name="accounts")
    note = models.TextField(_("note"), blank=True, default="", max_length=2000)
    team = models.ForeignKey(
        Group,
        verbose_name=_("team"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="wechat_accounts",
        db_index=False,
    )
    keep_online = models.BooleanField(
        _("keep online"), default=True, help_text=_("Recover this account when it drops. Off means paused.")
    )
    pause_reason = models.CharField(
        _("reason for the pause"), max_length=200, blank=True, default="", db_default=""
    )
    # Nobody is notified about the account until then; recovery goes on.
    silenced_until = models.DateTimeField(_("silenced until"), null=True, blank=True)
    relogin_at = models.DateTimeField(_("scheduled re-login"), null=True, blank=True)
    policy = models.ForeignKey(
        RecoveryPolicy,
        verbose_name=_("recovery policy"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="accounts",
    )
    # What speaks against it being online: how many sweeps in a row have not named it, and a WKTeam callback.
    # Since when, and what came first. Where a column has a default in the
    # database too, processes of the version before can go on during an upgrade.
    absent = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    missed_at = models.DateTimeField(null=True, blank=True, editable=False)
    missed_by = models.CharField(
        max_length=10, choices=DetectedBy, blank=True, default="", db_default="", editable=False
    )
    # Since when it is on the list "To scan": its code is fetched when somebody opens it.
    queued_for_scan_at = models.DateTimeField(
        _("in scan queue since"), null=True, blank=True, db_column="to_scan_since"
    )
    reason_asked_at = models.DateTimeField(null=True, blank=True, editable=False)

    first_login_at = models.DateTimeField(_("first login"), null=True, blank=True)
    last_login_at = models.DateTimeField(_("last login"), null=True, blank=True)
    last_offline_at = models.DateTimeField(_("last drop"), null=True, blank=True)
    last_offline_reason = models.CharField(
        _("reason for the last drop"), max_length=300, blank=True, default=""
    )

    # Fencing: every attempt takes the next number, and a wId is only written over one with a lower number.
    login_seq = models.PositiveIntegerField(default=0, editable=False)
    bound_seq = models.PositiveIntegerField(default=0, editable=False)
    merged_into = models.ForeignKey(
        "self",
        verbose_name=_("merged into"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="merged",
        db_column="joined_to_id",
        # Nearly every row has none: a plain index would be chosen for that, and every row be read and sorted.
        db_index=False,
    )
    created_at = models.DateTimeField(_("added"), default=timezone.now, editable=False)
    # One line for each column, so that no word is found across two of them.
    search_text = models.GeneratedField(
        expression=Lower(
            Concat(
                *("label", _LINE_END, "nickname", _LINE_END, "wc_id", _LINE_END, "wechat_id"),
                *(_LINE_END, "place"),
            )
        ),
        output_field=models.TextField(),
        db_persist=True,
    )

    objects = AccountQuerySet.as_manager()

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        permissions = [
            ("log_in_account", _("Can log in accounts")),
            ("check_account", _("Can check whether accounts are online")),
            ("view_every_account", _("Can view accounts of all teams")),
            ("manage_people", _("Can manage people and teams")),
            ("manage_members", _("Can manage the people of their own teams")),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(wc_id=""), name="wc_id_is_null_when_unknown"),
            models.CheckConstraint(condition=Q(state__in=AccountState.values), name="account_state_is_known"),
            models.CheckConstraint(
                condition=Q(state=AccountState.ONLINE, w_id__gt="")
                | (~Q(state=AccountState.ONLINE) & Q(w_id="")),
                name="w_id_while_online",
            ),
            models.CheckConstraint(
                condition=~Q(state=AccountState.ONLINE) | Q(wc_id__isnull=False), name="online_has_wc_id"
            ),
        ]
        indexes = [
            # The lists: one for each order, of all accounts and of a team's, and one for each filter. Those that the
            # tabs are counted and the racks are listed by also say whether an account was merged into another one.
            models.Index("label_key", "id", name="account_label"),
            models.Index("place_key", "id", name="account_place"),
            models.Index("state_since", "id", name="account_since"),
            models.Index("state", "id", "merged_into", name="account_state"),
            models.Index("state", "label_key", "id", name="account_state_label"),
            models.Index("state", "state_since", "id", name="account_state_since"),
            models.Index("team", "label_key", "id", name="account_team_label"),
            models.Index("team", "state_since", "id", name="account_team_since"),
            models.Index("team", "state", "id", "merged_into", name="account_team_state"),
            models.Index("proxy", "label_key", "id", name="account_line"),
            models.Index("label_key", "id", name="account_own_proxy", condition=Q(own_proxy__isnull=False)),
            models.Index("keep_online", "label_key", "id", name="account_keep_online"),
            models.Index("rack", "id", "state", "merged_into", "team", name="account_rack"),
            # Those whose last login did not succeed, or is in progress.
            models.Index("id", name="account_unanswered", condition=Q(login_seq__gt=F("bound_seq"))),
            models.Index("merged_into", condition=Q(merged_into__isnull=False), name="account_joined"),
            models.Index("first_login_at", name="account_first_login"),
            models.Index("last_login_at", name="account_last_login"),
            models.Index(
                "queued_for_scan_at",
                "id",
                name="account_to_scan",
                condition=Q(queued_for_scan_at__isnull=False),
            ),
            models.Index(
                *("team", "queued_for_scan_at", "id"),
                name="account_team_to_scan",
                condition=Q(queued_for_scan_at__isnull=False),
            ),
            models.Index("team", "place_key", "id", name="account_team_place"),
            models.Index("relogin_at", "id", name="account_due", condition=Q(relogin_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.label

    def save(self, *args, update_fields=None, **kwargs) -> None:
        if update_fields is None:
            self.derive_sort_keys()
        elif not {"label", "place"}.isdisjoint(update_fields):
            update_fields = {*update_fields, *self.derive_sort_keys()}
        super().save(*args, update_fields=update_fields, **kwargs)

    def derive_sort_keys(self) -> dict[str, str]:
        keys = sort_keys(self.label, self.place)
        for name, value in keys.items():
            setattr(self, name, value)
        return keys

    @property
    def display_name(self) -> str:
        return self.label or self.nickname or self.wc_id or f"#{self.pk}"

    @property
    def is_confirmed(self) -> bool:
        """Return whether a login, or WKTeam's list of online accounts, has confirmed the wcId."""
        return self.state != AccountState.NEW

    @property
    def has_own_proxy(self) -> bool:
        return self.own_proxy is not None

    @property
    def proxy_in_use(self) -> int | None:
        return OWN if self.has_own_proxy else self.proxy

    @property
    def is_archived(self) -> bool:
        return self.state == AccountState.ARCHIVED

    @property
    def is_silenced(self) -> bool:
        return self.silenced_until is not None and self.silenced_until > timezone.now()

    @property
    def proxy_name(self) -> str:
        return proxy_name(self.proxy_in_use)

    @property
    def masked_mobile(self) -> str:
        if len(self.mobile) < 8:
            return "****" if self.mobile else ""
        return f"{self.mobile[:3]}****{self.mobile[-4:]}"

    def last_checked(self, presence: Presence | None) -> datetime | None:
        """Return when WKTeam last confirmed the state. `presence`: the presence check's row, None before the first.

        The last answered check confirms every online account that it did not miss, with one row for all of them.
        The account's own column tells the rest: a later login, or, once it is missed, the last check before that.
        """
        swept_at = presence.checked_at if presence else None
        if swept_at is None or self.state != AccountState.ONLINE or self.absent:
            return self.checked_at
        return max(swept_at, self.checked_at or swept_at)

    @property
    def avatar_due(self) -> bool:
        """Whether the upstream names another picture than the one we have."""
        drawn = getattr(self, "avatar", None)
        return self.avatar_url != (drawn.source_url if drawn else "")

    @property
    def open_attempt(self) -> "LoginAttempt | None":
        found = getattr(self, "open_attempts", None)
        if found is None:
            return self.attempts.open().first()
        return found[0] if found else None

    def go_online(
        self,
        seq: int,
        w_id: str,
        now: datetime,
        attempt: "LoginAttempt | None",
        only_if: dict[str, object] | None = None,
        **profile,
    ) -> bool:
        """Write a new wId, if no newer login has written its own. Call it inside a transaction.

        `only_if` names more that has to hold in the row, where it is not locked.
        """
        fields = {"w_id": w_id, "bound_seq": seq, **online_since(now), **profile}
        mine = Account.objects.filter(pk=self.pk, bound_seq__lt=seq, **(only_if or {}))
        rows = mine.update(**fields)
        old = self.state
        if rows:
            for name, value in {**fields, "first_login_at": self.first_login_at or now}.items():
                setattr(self, name, value)
            record(self, EventType.ACCOUNT_ONLINE, attempt=attempt, old=old, new=self.state, at=now)
            if old == AccountState.ARCHIVED:
                record(self, EventType.RESTORED, attempt=attempt, at=now)
        return bool(rows)


def online_since(now: datetime) -> dict[str, object]:
    """Return the columns of an account that comes online, but for its wId and `bound_seq`."""
    return {
        "first_login_at": Coalesce(F("first_login_at"), now),
        "state": AccountState.ONLINE,
        "state_since": now,
        "checked_at": now,
        "last_login_at": now,
        "relogin_at": None,
        "queued_for_scan_at": None,
        "absent": 0,
        "missed_at": None,
        "missed_by": "",
        **UNASSIGNED,
    }


class Avatar(models.Model):
    """The avatar as pages show it: fetched once and redrawn. A separate table keeps lists light."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True)
    png = models.BinaryField()
    source_url = models.CharField(max_length=500)
    fetched_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"avatar of {self.account_id}"

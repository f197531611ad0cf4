"""The tables, what can be asked of them, and the one door through which a state changes.

A state moves by compare-and-set, in one transaction with its event row; the doorbell rings after the commit.
Losing the race is a normal outcome: the mover is told so and looks again.
"""

from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.history import AccountEvent, ForbiddenMove, record
from accounts.reasons import Reason
from accounts.states import (
    ATTEMPT_MOVES,
    FINAL_STATES,
    OPEN_STATES,
    AccountState,
    AttemptState,
    Happened,
    Method,
    Trigger,
    may_move,
)
from accounts.vault import EncryptedTextField

# After its deadline an attempt is given this long for an answer that is on its way; then the sweep ends it,
# and if no sweep runs any more, whoever reads it.
GRACE = timedelta(seconds=6)
SWEPT_AFTER = timedelta(seconds=12)
CLOSED_AFTER = timedelta(seconds=16)
REQUEUE_AFTER = timedelta(seconds=5)

UNKNOWN_LINE = _("line %(code)s")

__all__ = ["Account", "AccountEvent", "Avatar", "LoginAttempt", "Tag", "UpstreamAccess"]


class Tag(models.Model):
    name = models.CharField(_("name"), max_length=40, unique=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("tag")
        verbose_name_plural = _("tags")

    def __str__(self) -> str:
        return self.name


class AccountQuerySet(models.QuerySet):
    def visible_to(self, user) -> Self:
        """Those of the user's teams; every one for who may see every account. Nothing for anybody else."""
        if not user.is_active or not user.has_perm("accounts.view_account"):
            return self.none()
        if user.has_perm("accounts.view_every_account"):
            return self
        return self.filter(team__in=user.groups.all())

    def kept(self) -> Self:
        """Without the records that were joined with another one."""
        return self.filter(joined_to=None)

    def matching(self, text: str) -> Self:
        """Every word of `text` is in the label, the nickname, the wcId or the WeChat number."""
        for word in text.split()[:6]:
            self = self.filter(
                Q(label__icontains=word)
                | Q(nickname__icontains=word)
                | Q(wc_id__icontains=word)
                | Q(wechat_number__icontains=word)
            )
        return self

    def with_open_attempt(self) -> Self:
        """Each with `open_attempts`, a list of none or one."""
        open_ones = LoginAttempt.objects.open().defer("qr_png", "qr_text").select_related("asked_by")
        return self.prefetch_related(models.Prefetch("attempts", open_ones, to_attr="open_attempts"))


class Account(models.Model):
    label = models.CharField(_("label"), max_length=100, help_text=_("Your own name for this account."))
    wc_id = models.CharField("wcId", max_length=100, null=True, blank=True, unique=True, default=None)
    w_id = models.CharField("wId", max_length=100, blank=True, default="")
    state = models.CharField(_("state"), max_length=10, choices=AccountState, default=AccountState.NEW)
    state_since = models.DateTimeField(_("since"), default=timezone.now)
    verified_at = models.DateTimeField(_("verified"), null=True, blank=True)

    nickname = models.CharField(_("nickname"), max_length=100, blank=True, default="")
    wechat_number = models.CharField(_("WeChat number"), max_length=100, blank=True, default="")
    avatar_url = models.CharField(_("avatar address"), max_length=500, blank=True, default="")
    sex = models.PositiveSmallIntegerField(_("sex"), null=True, blank=True)
    region = models.CharField(_("region"), max_length=101, blank=True, default="")
    signature = models.CharField(_("signature"), max_length=200, blank=True, default="")
    mobile = models.CharField(_("mobile"), max_length=30, blank=True, default="")

    proxy = models.PositiveSmallIntegerField(_("line"), null=True, blank=True)
    tags = models.ManyToManyField(Tag, verbose_name=_("tags"), blank=True, related_name="accounts")
    note = models.TextField(_("note"), blank=True, default="", max_length=2000)
    team = models.ForeignKey(
        Group,
        verbose_name=_("team"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="wechat_accounts",
    )
    keep_online = models.BooleanField(
        _("keep online"), default=True, help_text=_("Log it in again when it drops.")
    )
    relogin_at = models.DateTimeField(_("re-login due"), null=True, blank=True)

    first_login_at = models.DateTimeField(_("first login"), null=True, blank=True)
    last_login_at = models.DateTimeField(_("last login"), null=True, blank=True)
    last_offline_at = models.DateTimeField(_("last offline"), null=True, blank=True)
    last_offline_reason = models.CharField(
        _("reason of the last drop"), max_length=300, blank=True, default=""
    )

    # Fencing: every attempt takes the next number, and a wId is only written over one with a lower number.
    login_seq = models.PositiveIntegerField(default=0, editable=False)
    bound_seq = models.PositiveIntegerField(default=0, editable=False)
    joined_to = models.ForeignKey(
        "self",
        verbose_name=_("joined with"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="joined",
    )
    created_at = models.DateTimeField(_("added"), default=timezone.now, editable=False)

    objects = AccountQuerySet.as_manager()

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        permissions = [
            ("log_in_account", _("Can log accounts in")),
            ("view_every_account", _("Can see the accounts of all teams")),
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
            # The accounts page: one per order, within the teams of who looks, and for who sees all.
            models.Index("team", Lower("label"), "id", name="account_team_label"),
            models.Index("team", "state", "id", name="account_team_state"),
            models.Index(Lower("label"), "id", name="account_label"),
            models.Index("state", "id", name="account_state"),
            models.Index("state_since", "id", name="account_since"),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def display_name(self) -> str:
        return self.label or self.nickname or self.wc_id or f"#{self.pk}"

    @property
    def proxy_name(self) -> str:
        return line_name(self.proxy)

    @property
    def masked_mobile(self) -> str:
        return (
            f"{self.mobile[:3]}****{self.mobile[-4:]}"
            if len(self.mobile) >= 8
            else "****"
            if self.mobile
            else ""
        )

    @property
    def open_attempt(self) -> "LoginAttempt | None":
        found = getattr(self, "open_attempts", None)
        if found is None:
            return self.attempts.open().first()
        return found[0] if found else None

    def go_online(
        self, seq: int, w_id: str, now: datetime, attempt: "LoginAttempt | None", **profile
    ) -> bool:
        """Write a new wId, if no newer login has written its own. Call it inside a transaction."""
        rows = Account.objects.filter(pk=self.pk, bound_seq__lt=seq).update(
            w_id=w_id,
            bound_seq=seq,
            state=AccountState.ONLINE,
            state_since=now,
            verified_at=now,
            last_login_at=now,
            relogin_at=None,
            first_login_at=Coalesce(F("first_login_at"), now),
            **profile,
        )
        old = self.state
        if rows:
            self.refresh_from_db()
            record(self, Happened.ACCOUNT_ONLINE, attempt=attempt, old=old, new=self.state, at=now)
        return bool(rows)


class Avatar(models.Model):
    """The avatar as we show it: fetched once, drawn anew. In a table of its own to keep lists light."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True)
    png = models.BinaryField()
    source_url = models.CharField(max_length=500)
    fetched_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"avatar of {self.account_id}"


class LoginAttemptQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(state__in=OPEN_STATES)

    def visible_to(self, user) -> Self:
        return self.filter(account__in=Account.objects.visible_to(user))

    def past(self, deadline_plus: timedelta, now: datetime) -> Self:
        return self.open().filter(deadline_at__lt=now - deadline_plus)

    def unattended(self, now: datetime) -> Self:
        """Waits that no living worker holds, and that nobody put into the queue just now."""
        return self.filter(
            Q(lease_until=None) | Q(lease_until__lt=now),
            Q(queued_at=None) | Q(queued_at__lt=now - REQUEUE_AFTER),
            state=AttemptState.WAITING,
            deadline_at__gt=now - GRACE,
        )


class LoginAttempt(models.Model):
    account = models.ForeignKey(
        Account, verbose_name=_("account"), on_delete=models.CASCADE, related_name="attempts"
    )
    method = models.CharField(_("method"), max_length=10, choices=Method, default=Method.QR)
    trigger = models.CharField(_("started by"), max_length=10, choices=Trigger, default=Trigger.OPERATOR)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("operator"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    asked_by_name = models.CharField(max_length=150, blank=True, default="", editable=False)
    proxy = models.PositiveSmallIntegerField(_("line"), null=True, blank=True)
    seq = models.PositiveIntegerField(editable=False)

    state = models.CharField(_("state"), max_length=15, choices=AttemptState, default=AttemptState.PREPARING)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason, blank=True, default="")
    upstream_code = models.CharField(_("the upstream's code"), max_length=20, blank=True, default="")
    upstream_text = models.CharField(_("the upstream's words"), max_length=300, blank=True, default="")
    # Who scanned, when that was not the account expected; kept as text too, for who may not see the record.
    other_account = models.ForeignKey(
        Account,
        verbose_name=_("account that scanned"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    other_name = models.CharField(max_length=210, blank=True, default="", editable=False)

    w_id = models.CharField("wId", max_length=100, blank=True, default="")
    # Capabilities: whoever has them may log in. Emptied by the move that ends the attempt.
    qr_text = EncryptedTextField(blank=True, default="", editable=False)
    qr_png = models.BinaryField(null=True, editable=False)
    page_url = EncryptedTextField(blank=True, default="", editable=False)
    verify_code = EncryptedTextField(blank=True, default="", editable=False)
    codes_tried = models.PositiveSmallIntegerField(default=0, editable=False)

    created_at = models.DateTimeField(_("asked"), default=timezone.now)
    sent_at = models.DateTimeField(_("code asked for"), null=True, blank=True)
    qr_shown_at = models.DateTimeField(_("code shown"), null=True, blank=True)
    wait_started_at = models.DateTimeField(_("wait started"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    deadline_at = models.DateTimeField(_("deadline"))

    lease_owner = models.CharField(max_length=100, blank=True, default="", editable=False)
    lease_epoch = models.PositiveIntegerField(default=0, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    queued_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = LoginAttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("login attempt")
        verbose_name_plural = _("login attempts")
        constraints = [
            models.UniqueConstraint(
                fields=["account"], condition=Q(state__in=OPEN_STATES), name="one_open_attempt"
            ),
            models.CheckConstraint(condition=Q(state__in=AttemptState.values), name="attempt_state_is_known"),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, state__in=OPEN_STATES)
                | Q(ended_at__isnull=False, state__in=FINAL_STATES),
                name="ended_when_final",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=FINAL_STATES)
                | Q(qr_png=None, qr_text="", page_url="", verify_code=""),
                name="no_capability_left",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="attempt_of_account"),
            models.Index(fields=["state", "-id"], name="attempt_state"),
            models.Index("deadline_at", condition=Q(state__in=OPEN_STATES), name="attempt_open_deadline"),
            models.Index("lease_owner", condition=Q(state=AttemptState.WAITING), name="attempt_lease_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()} #{self.pk}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def proxy_name(self) -> str:
        return line_name(self.proxy)

    @property
    def resumed(self) -> bool:
        return self.lease_epoch > 1

    def seconds_left(self, now: datetime) -> float:
        return max(0.0, (self.deadline_at - now).total_seconds())

    def move(
        self, to: str, *, by=None, epoch: int | None = None, now: datetime | None = None, **changes
    ) -> bool:
        """Move to another state, if it is still in the one seen here (and the lease still has `epoch`).

        Returns whether it moved. A move into a final state drops what could still be used to log in.
        """
        now = now or timezone.now()
        old = self.state
        if not may_move(ATTEMPT_MOVES, old, to):
            raise ForbiddenMove(f"{old} to {to}")
        if to in FINAL_STATES:
            gone = {"qr_text": "", "qr_png": None, "page_url": "", "verify_code": ""}
            changes = {**changes, **gone, "ended_at": now, "lease_owner": "", "lease_until": None}
        mine = {"lease_epoch": epoch} if epoch is not None else {}
        with transaction.atomic():
            rows = LoginAttempt.objects.filter(pk=self.pk, state=old, **mine).update(state=to, **changes)
            if rows:
                self.refresh_from_db()
                record(
                    self.account, Happened.ATTEMPT_MOVED, attempt=self, old=old, new=to, by=by, at=now,
                    reason=self.reason if to in FINAL_STATES else "", detail=changes.get("upstream_text", ""),
                )  # fmt: skip
        return bool(rows)


class UpstreamAccess(models.Model):
    """The Authorization for one developer account at one address, and whether the upstream takes it."""

    base_url = models.CharField(max_length=300)
    account = models.CharField(max_length=150, blank=True, default="")
    authorization = EncryptedTextField(blank=True, default="")
    renewed_at = models.DateTimeField(null=True, blank=True)
    renewing_until = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    refused_why = models.CharField(max_length=20, blank=True, default="")
    refused_text = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["base_url", "account"], name="one_access_per_account")]

    def __str__(self) -> str:
        return f"{self.account} at {self.base_url}"


def line_name(code: int | None) -> str:
    if code is None:
        return ""
    return settings.WK_PROXIES.get(code) or str(UNKNOWN_LINE % {"code": code})

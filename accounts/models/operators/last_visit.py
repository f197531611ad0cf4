"""When a person last looked at the overview, which says what happened since."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from accounts.lib import db_clock

WRITTEN_EVERY = timedelta(minutes=1)
# A person who did not look for this long comes back to a new visit.
VISIT_ENDS_AFTER = timedelta(minutes=30)


class LastVisit(models.Model):
    """One row for each person. `seen_at`: last look, to the minute. `left_at`: end of the visit before this one."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="last_visit"
    )
    seen_at = models.DateTimeField(default=timezone.now)
    left_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"visit of {self.user_id}"

    @classmethod
    def seen(cls, user) -> datetime | None:
        """Record that the person looks, at most once a minute. Return the end of the visit before this one."""
        now, row = db_clock.now(), cls.objects.filter(pk=user.pk).first()
        if row is None:
            try:
                with transaction.atomic():
                    cls.objects.create(user=user, seen_at=now)
            except IntegrityError:
                pass  # another request of this person was first
            return None
        if now - row.seen_at < WRITTEN_EVERY:
            return row.left_at
        left_at = row.seen_at if now - row.seen_at >= VISIT_ENDS_AFTER else row.left_at
        # Only over the row that was read: of two requests that end a break, one writes when it began.
        written = cls.objects.filter(pk=user.pk, seen_at=row.seen_at).update(seen_at=now, left_at=left_at)
        return left_at if written else cls.objects.values_list("left_at", flat=True).get(pk=user.pk)

"""What the facts are made of. Each part is read when it is first asked for, with a query whose cost is bounded.

No part calls WKTeam: what it last answered stands in the database.
"""

from collections import Counter
from datetime import datetime, timedelta
from functools import cached_property

from django.conf import settings
from django.db.models import Count, Min

from accounts.lib import db_clock, pubsub
from accounts.models import Channel, Delivery, Drop, JobRun, LoginAttempt, UpstreamAccess, WaitsWorker
from accounts.models.login_attempt import LEASED, QUEUED
from accounts.models.presence import Presence
from accounts.presence import sweep
from accounts.states import AttemptState, DetectedBy
from accounts.upstream import developer_account, token_store
from accounts.upstream.developer_account import DeveloperAccount

QUEUES = ("jobs", "waits")
# An attempt has ended this long after its deadline, whatever died.
ENDED_AFTER = timedelta(seconds=20)
LATE_DELIVERY = timedelta(minutes=10)
ERRORS_OF = timedelta(hours=1)
# Of so many drops, whether a callback reported one.
DROPS_LOOKED_AT = 200
COUNTED = 1000


class Reading:
    def __init__(self):
        self.now = db_clock.now()

    def age(self, moment: datetime | None) -> float | None:
        return None if moment is None else max(0.0, (self.now - moment).total_seconds())

    @cached_property
    def broker(self) -> pubsub.Broker | None:
        return pubsub.broker(*QUEUES)

    @cached_property
    def job_runs(self) -> dict[str, JobRun]:
        return {run.name: run for run in JobRun.objects.all()}

    @cached_property
    def workers(self) -> dict[str, tuple[int, int]]:
        """The living waits workers by their names: how many logins each holds, and how many it can hold."""
        leased = LoginAttempt.objects.open().filter(LEASED).order_by()
        held = dict(leased.values_list("lease_owner").annotate(number=Count("pk")))
        living = WaitsWorker.objects.filter(alive_until__gt=self.now).order_by("name")
        return {row.name: (held.get(row.name, 0), row.slots or settings.WAIT_SLOTS) for row in living}

    @property
    def free_slots(self) -> int:
        return sum(max(0, slots - held) for held, slots in self.workers.values())

    @cached_property
    def queued(self) -> tuple[int, datetime | None]:
        """How many logins wait for a free slot, and since when the first of them does."""
        found = (
            LoginAttempt.objects.open().filter(QUEUED).aggregate(number=Count("pk"), since=Min("queued_at"))
        )
        return found["number"], found["since"]

    @cached_property
    def overdue(self) -> int:
        return LoginAttempt.objects.past(ENDED_AFTER, self.now)[:COUNTED].count()

    @cached_property
    def access(self) -> UpstreamAccess | None:
        return token_store.access()

    @cached_property
    def developer_account(self) -> DeveloperAccount | None:
        return self.access and developer_account.known(self.access)

    @cached_property
    def presence(self) -> Presence | None:
        return sweep.seen()

    @cached_property
    def failures(self) -> Counter:
        """How many logins failed lately, by reason."""
        failed = LoginAttempt.objects.filter(state=AttemptState.FAILED, created_at__gt=self.now - ERRORS_OF)
        return Counter(failed.order_by().values_list("reason", flat=True))

    @cached_property
    def newest_drops(self) -> list[tuple[str, datetime]]:
        return list(Drop.objects.order_by("-id").values_list("detected_by", "at")[:DROPS_LOOKED_AT])

    @property
    def last_callback(self) -> datetime | None:
        run = self.job_runs.get("callback")
        found = [at for by, at in self.newest_drops if by == DetectedBy.CALLBACK]
        return max([*found, *([run.ran_at] if run and run.ran_at else [])], default=None)

    @cached_property
    def disabled_channels(self) -> list[str]:
        return list(Channel.objects.broken().values_list("name", flat=True))

    @cached_property
    def late_deliveries(self) -> int:
        return Delivery.objects.due(self.now - LATE_DELIVERY)[:COUNTED].count()

"""What keeping accounts online leaves behind, for bench/seed.py: drops, open and ended, and incidents."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from accounts.models import Drop, Incident, UnmanagedAccount
from accounts.states import DetectedBy, DropKind, Method, NextStep

ENDED_OF_EACH = 3  # for each account there is
IN_ONE = 60  # drops of an incident that is over
FEW = 40
MODELS = (Incident, Drop, UnmanagedAccount)


class Drops:
    """Every account that is offline has its open drop; the newest of them came together, in two incidents."""

    def __init__(self, pick: random.Random, accounts: int, start: datetime, end: datetime):
        self.pick, self.accounts, self.start, self.end = pick, accounts, start, end
        self.offline: list[tuple[int, datetime]] = []
        self.incidents = max(2, accounts // 200)
        self.rows_of_each = (self.incident_rows, self.rows, self.strangers)  # of MODELS

    def incident_rows(self, table, when) -> Iterator[tuple]:
        """The last two are open."""
        for pk in range(1, self.incidents + 1):
            at = self._time_of(pk)
            ended = None if pk > self.incidents - 2 else at + timedelta(hours=3)
            yield table.row(
                id=pk,
                shares="proxy" if pk % 2 else "",
                shared=str(pk % 5 + 1) if pk % 2 else "",
                at=when(at),
                last_drop_at=when(at),
                ended_at=ended and when(ended),
            )

    def _time_of(self, incident: int) -> datetime:
        return self.start + (self.end - self.start) * (incident / self.incidents)

    def rows(self, table, when) -> Iterator[tuple]:
        for pk in range(1, self.accounts * ENDED_OF_EACH + 1):
            incident = 1 + pk // IN_ONE
            at = self.start + (self.end - self.start) * self.pick.random()
            yield table.row(
                **self._drop(pk, self.pick.randint(1, self.accounts), at, when),
                incident_id=incident if incident <= self.incidents - 2 else None,
                next_step=NextStep.NOTHING,
                next_at=None,
                ended_at=when(at + timedelta(minutes=40)),
                ended_by=self.pick.choice([Method.QR, Method.POPUP, ""]),
            )
        first = self.accounts * ENDED_OF_EACH + 1
        together = len(self.offline) // 20  # of each open incident
        for number, (account, since) in enumerate(self.offline):
            open_incident = self.incidents - number // together if number < 2 * together else None
            yield table.row(
                **self._drop(first + number, account, since, when),
                incident_id=open_incident,
                next_step=NextStep.SCAN,
                next_at=None,
            )

    def _drop(self, pk: int, account: int, at: datetime, when) -> dict:
        return {
            "id": pk,
            "account_id": account,
            "kind": self.pick.choices([DropKind.ORDINARY, DropKind.FIRST_NIGHT], weights=(95, 5))[0],
            "detected_by": self.pick.choice(DetectedBy.values),
            "w_id": f"drop-{pk:010x}",
            "online_since": when(at - timedelta(days=2)),
            "at": when(at),
            "proxy": self.pick.choice([1, 2, 3, 4, 5, None]),
            "reason_text": self.pick.choice(["", "logged in on another device"]),
        }

    def strangers(self, table, when) -> Iterator[tuple]:
        for pk in range(1, FEW + 1):
            yield table.row(id=pk, wc_id=f"wxid_stranger{pk:04}", found_at=when(self.end))

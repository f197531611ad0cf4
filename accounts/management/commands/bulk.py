"""One action on many accounts, from a terminal or a script."""

import json
import sys
import time

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone

from accounts import tasks
from accounts.bulk import actions, runs
from accounts.models import Account, BulkRun, RecoveryPolicy, Team
from accounts.models.operators.bulk_run import BulkAction, BulkState
from accounts.web.account_list import AccountList
from accounts.web.bulk.forms import form_for

ALL_DONE, SOME_NOT, NOBODY, INTERRUPTED = 0, 1, 2, 130
POLL_SECONDS = 0.5
FILTERS = ("q", "group", "team", "tag", "proxy", "rack")
SHOWN = 20


class Command(BaseCommand):
    help = (
        "Does one thing with many accounts, by the rights of one person. Without --start it only says what it would "
        "do. The jobs execute a run that was started. Exit codes: 0: started, or with --wait: all are done; 1: with "
        "--wait: some are not; 2: no account can be taken; 130: interrupted by Ctrl-C, the run goes on."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("action", choices=BulkAction.values)
        parser.add_argument("--by", required=True, metavar="USER", help="the person whose rights apply")
        parser.add_argument(
            "--filter",
            required=True,
            help="the accounts, as in the address of the list: 'group=offline&tag=night'; '' for all",
        )
        parser.add_argument("--tags", help="of tag and untag, with commas between them")
        parser.add_argument("--team", help="of team: its name")
        parser.add_argument("--proxy", help="of proxy: its code, or none")
        parser.add_argument("--place", help="of place")
        parser.add_argument("--policy", help="of policy: its name; without it the default policy")
        parser.add_argument("--reason", help="of pause")
        parser.add_argument("--at", help="of due: 2026-01-31 09:30; without it no re-login is scheduled")
        parser.add_argument("--start", action="store_true", help="start it, not only say what it would do")
        parser.add_argument("--wait", action="store_true", help="with --start: wait for all results")
        parser.add_argument("--json", action="store_true", help="one JSON document instead of text")

    def handle(self, **options) -> None:
        action, person = options["action"], _person(options["by"])
        if not actions.may(person, action):
            raise CommandError(f"{person} may not do this")
        value, accounts = _value(action, person, options), _accounts(person, options["filter"])
        try:
            found = runs.look(action, value, accounts)
        except runs.TooMany:
            raise CommandError(
                f"at most {runs.most(action)} accounts at a time; nothing was started"
            ) from None
        run = runs.start(person, action, value, accounts) if options["start"] and found.ready else None
        if run:
            tasks.put_into_queue(tasks.bulk_run, run.pk)
        if run and options["wait"]:
            self._wait(run)
        self._report(found, run, options)
        if not found.ready:
            sys.exit(NOBODY)
        if run and options["wait"]:
            number = runs.counts(run)
            sys.exit(SOME_NOT if number[BulkState.DONE] < len(found.ready) else ALL_DONE)

    def _wait(self, run: BulkRun) -> None:
        try:
            while BulkRun.objects.open().filter(pk=run.pk).exists():
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.stderr.write(f"run {run.pk} goes on")
            sys.exit(INTERRUPTED)

    def _report(self, found: runs.DryRun, run: BulkRun | None, options: dict) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(_document(found, run), ensure_ascii=False))
            return
        self.stdout.write(f"accounts: {len(found.ready)}")
        for words, accounts in found.reasons:
            names = ", ".join(account.display_name for account in accounts[:SHOWN])
            more = ", …" if len(accounts) > SHOWN else ""
            self.stdout.write(f"left out: {len(accounts)} ({words}): {names}{more}")
        if found.until:
            self.stdout.write(f"last phone prompt: {timezone.localtime(found.until):%Y-%m-%d %H:%M}")
        if run is None:
            self.stdout.write(
                "nothing was started" if options["start"] else "dry run; add --start to start it"
            )
            return
        self.stdout.write(f"run {run.pk}")
        if options["wait"]:
            for item in run.items.exclude(state=BulkState.LEFT_OUT).select_related("account").order_by("pk"):
                self.stdout.write(f"{item.account.display_name}: {item.words or item.get_state_display()}")


def _person(name: str):
    person = get_user_model().objects.filter(username=name, is_active=True).first()
    if person is None:
        raise CommandError(f"nobody active is named {name!r}")
    return person


def _accounts(person, query: str) -> QuerySet[Account]:
    """Return the accounts of a filter. Raises CommandError if a part of it means nothing: it would match all."""
    asked = QueryDict(query.removeprefix("?"))
    search = AccountList.of(person, asked)
    understood = QueryDict(search.query().removeprefix("?"))
    for name in asked:
        if name not in FILTERS or name not in understood:
            raise CommandError(f"no such filter: {name}={asked[name]}")
    return search.selection()


def _value(action: str, person, options: dict) -> dict:
    team, policy = options["team"], options["policy"]
    data = {name: options[name] or "" for name in ("tags", "proxy", "place", "reason", "at")}
    data["team"] = Team.objects.filter(name=team).values_list("pk", flat=True).first() if team else ""
    data["policy"] = (
        RecoveryPolicy.objects.filter(name=policy).values_list("pk", flat=True).first() if policy else ""
    )
    for name in ("team", "policy"):
        if options[name] and data[name] is None:
            raise CommandError(f"no {name} is named {options[name]!r}")
    form = form_for(action, person, data)
    if not form.is_valid():
        raise CommandError("; ".join(f"--{name}: {' '.join(errors)}" for name, errors in form.errors.items()))
    return form.value()


def _document(found: runs.DryRun, run: BulkRun | None) -> dict:
    left = {reason: [account.pk for account in those] for reason, those in found.left_out.items()}
    document = {
        "ready": [account.pk for account in found.ready],
        "left_out": left,
        "until": found.until and found.until.isoformat(),
        "run": run and run.pk,
    }
    if run is not None:
        items = run.items.order_by("pk").values("account", "state", "reason")
        document["results"] = list(items)
    return document

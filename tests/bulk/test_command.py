"""`manage.py bulk`: what it says without --start, what it starts, and its exit codes."""

import json

import pytest
from django.core.management import CommandError, call_command

from accounts.bulk import execute
from accounts.management.commands.bulk import ALL_DONE, NOBODY, SOME_NOT, Command
from accounts.models import Account, BulkRun
from accounts.states import AccountState


def bulk(capsys, *args: str) -> tuple[int, str]:
    code = 0
    try:
        call_command(Command(), *args)
    except SystemExit as left:
        code = left.code
    return code, capsys.readouterr().out


def test_without_start_it_says_what_it_would_do(people, capsys):
    people.account(label="a", proxy=1)
    people.account(label="b", proxy=4)
    people.account(label="theirs", team=people.west)
    code, said = bulk(capsys, "proxy", "--by", "operator", "--filter", "", "--proxy", "4")
    assert code == 0
    assert said.splitlines() == [
        "accounts: 1", "left out: 1 (Nothing to change): b", "dry run; add --start to start it",
    ]  # fmt: skip
    assert not BulkRun.objects.exists()


def test_it_starts_a_run_of_the_accounts_that_a_filter_names(people, capsys):
    people.account(label="a", state=AccountState.OFFLINE, wc_id="wxid_a")
    people.account(label="b")
    code, said = bulk(
        capsys,
        "pause",
        "--by",
        "operator",
        "--filter",
        "group=offline",
        "--reason",
        "holiday",
        "--start",
        "--json",
    )
    run = BulkRun.objects.get()
    document = json.loads(said)
    assert (code, document["run"], document["left_out"]) == (0, run.pk, {})
    assert document["ready"] == [Account.objects.get(label="a").pk]
    execute.go_on(run.pk)
    assert Account.objects.get(keep_online=False).label == "a"


def test_a_filter_that_means_nothing_is_no_filter_for_everything(people, capsys):
    people.account()
    for query in ("grop=offline", "group=offlin", "team=99", "proxy=x", "sort=label"):
        with pytest.raises(CommandError, match="no such filter"):
            bulk(capsys, "resume", "--by", "operator", "--filter", query)


def test_what_is_wrong_starts_nothing(people, capsys):
    people.account()
    for args in (
        ("pause", "--by", "operator", "--filter", ""),
        ("tag", "--by", "operator", "--filter", "", "--tags", " , "),
        ("team", "--by", "operator", "--filter", "", "--team", "West"),
        ("team", "--by", "operator", "--filter", "", "--team", "nobody"),
        ("policy", "--by", "operator", "--filter", "", "--policy", "nobody"),
        ("due", "--by", "operator", "--filter", "", "--at", "2020-01-01 10:00"),
        ("resume", "--by", "viewer", "--filter", ""),
        ("resume", "--by", "nobody", "--filter", ""),
    ):
        with pytest.raises(CommandError):
            bulk(capsys, *args, "--start")
    assert not BulkRun.objects.exists()
    assert bulk(capsys, "resume", "--by", "operator", "--filter", "", "--start")[0] == NOBODY


@pytest.mark.parametrize(("taken", "code"), [(False, ALL_DONE), (True, SOME_NOT)])
def test_with_wait_it_says_what_became_of_each(committed, capsys, monkeypatch, taken, code):
    committed.account(label="a")
    moved = committed.account(label="b")

    def jobs_do(run_id: int) -> None:
        if taken:
            Account.objects.filter(pk=moved.pk).update(team=committed.west)
        execute.go_on(run_id)

    monkeypatch.setattr("accounts.tasks.put_into_queue", lambda _task, run_id: jobs_do(run_id))
    got, said = bulk(
        capsys, "place", "--by", "operator", "--filter", "", "--place", "x", "--start", "--wait", "--json"
    )
    states = [result["state"] for result in json.loads(said)["results"]]
    assert (got, states) == (code, ["done", "left_out" if taken else "done"])

import json
import sys

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, connection

from accounts.status import facts, runbook
from accounts.status.facts import Fact, State

ALL_OK, SOMETHING_WRONG, NOT_KNOWN = 0, 1, 2


class Command(BaseCommand):
    help = (
        "Says whether the portal works: workers, beat, periodic jobs, queues, WKTeam, notifications. Exit codes: "
        "0: everything is ok; 1: a warning or a fault needs a person; 2: not known, the database does not answer."
    )
    requires_system_checks = []

    def add_arguments(self, parser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON document instead of a table")

    def handle(self, **options) -> None:
        try:
            reach_database()
            found, known = facts.collect(), True
        except (DatabaseError, InterfaceError) as error:
            words = str(error).strip().partition("\n")[0] or type(error).__name__
            found, known = [Fact("database", "Database", words, State.FAULT, "WkportalDatabase")], False
        worst = max(fact.state for fact in found)
        self.stdout.write(as_json(found, known, worst) if options["json"] else as_table(found))
        sys.exit(NOT_KNOWN if not known else SOMETHING_WRONG if worst else ALL_OK)


def reach_database() -> None:
    """Raise what PostgreSQL says to a connection: the pool would try for 10 s at each query, and not say why."""
    if connection.vendor == "postgresql":
        with connection.wrap_database_errors:
            connection.Database.connect(**connection.get_connection_params()).close()


def as_json(found: list[Fact], known: bool, worst: State) -> str:
    """Return JSON: version; state: ok, warning, fault or unknown; facts, each with its numbers and its section."""
    document = {
        "version": settings.VERSION,
        "state": State(worst).name.lower() if known else "unknown",
        "facts": [
            {
                "name": fact.name,
                "title": str(fact.title),
                "state": fact.state.name.lower(),
                "value": fact.value,
                "runbook": section_of(fact),
                "numbers": fact.numbers,
                "parts": {str(name): value for name, value in fact.parts},
            }
            for fact in found
        ],
    }
    return json.dumps(document, ensure_ascii=False)


def as_table(found: list[Fact]) -> str:
    width = max(len(fact.title) for fact in found)
    lines = []
    for fact in sorted(found, key=lambda fact: -fact.state):
        lines.append(f"{fact.state.name.lower():8} {fact.title:{width}}  {fact.value}")
        if fact.state:
            lines.append(f"{'':8} {'':{width}}  {section_of(fact)}")
    return "\n".join(lines)


def section_of(fact: Fact) -> str:
    """Return where to read what to do; "" for a fact that needs nothing."""
    return f"docs/operations.md#{runbook.anchor_of(fact.alert)}" if fact.alert else ""

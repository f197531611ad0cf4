import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import TransactionTestCase
from django.urls import get_resolver
from django.utils import timezone, translation
from pytest_django.plugin import blocking_manager_key

from accounts.lib import db_clock
from accounts.logins import expire, leases
from accounts.models import Presence
from accounts.upstream import configured
from tests.support import cleanup, environment, factories, services
from tests.support.stack import Operator

# Otherwise WhiteNoise opens every static file again for each test client.
settings.WHITENOISE_AUTOREFRESH = True
settings.PASSWORD_HASHERS = ["tests.support.factories.QuickHasher"]
TransactionTestCase._fixture_teardown = cleanup.empty
HAS_DATABASE, PROCESSES_RAN = pytest.StashKey[bool](), pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def collected_static():
    with services.made_once(settings.STATIC_ROOT / "staticfiles.json") as make:
        if make:
            call_command("collectstatic", interactive=False, verbosity=0)


@pytest.fixture(scope="session")
def django_db_setup(request, django_test_environment, django_db_blocker):
    """This process's database, a real one that other processes can open."""
    environment.make_database()
    request.session.stash[HAS_DATABASE] = True
    yield
    with django_db_blocker.unblock():
        connection.close()
    environment.drop_database()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test without processes finds no row of those that ran before it, and wrote to their end."""
    stash = item.session.stash
    if item.get_closest_marker("live"):
        stash[PROCESSES_RAN] = True
    elif stash.get(PROCESSES_RAN, False) and stash.get(HAS_DATABASE, False):
        stash[PROCESSES_RAN] = False
        with item.config.stash[blocking_manager_key].unblock():
            cleanup.as_migrated()
            connection.close()


@pytest.fixture(autouse=True)
def language():
    """What a test said in another language leaves none of it to the next."""
    yield
    translation.activate(settings.LANGUAGE_CODE)


@pytest.fixture
def plain_refusals(monkeypatch):
    """A refusal has no page: for tests that look at the status of hundreds of answers."""

    def answer(status: int):
        return lambda request, exception: HttpResponse(status=status)

    monkeypatch.setattr(get_resolver(), "resolve_error_handler", answer)


@pytest.fixture
def upstream():
    """The simulator over real HTTP, as new."""
    environment.simulator.reset()
    configured._client.cache_clear()
    yield environment.simulator
    environment.simulator.clear()


@pytest.fixture
def people(db):
    return factories.People()


@pytest.fixture
def committed(transactional_db):
    """A database in which commits are real, with the three people of every story."""
    return factories.People()


@pytest.fixture
def live(django_db_setup, django_db_blocker):
    """As `committed`, while workers and web run on the same database: rows are deleted, tables not locked."""
    with django_db_blocker.unblock():
        connection.close()  # the one of the tests before: other processes come now
        factories.forget_everything()
        Presence.objects.get_or_create(pk=Presence.ONLY)  # workers that run make it once a minute
        yield factories.People()
        factories.forget_everything()
        connection.close()


@pytest.fixture
def stack(running):
    """The processes of a module that has a fixture `running`; the next test finds all of them at work."""
    yield running
    running.complete()


@pytest.fixture
def operator(stack, live, upstream):
    """The operator at a browser without JavaScript."""
    return Operator(stack, live.operator)


@pytest.fixture(autouse=True)
def own_clock(monkeypatch):
    """Tests that travel in time take this process's clock along; workers and web keep the database's."""
    monkeypatch.setattr(db_clock, "now", timezone.now)


@pytest.fixture(autouse=True)
def own_leases(monkeypatch):
    """A test begins without rows and leases, and ends the thread that renews its own."""
    holder = leases._Holder()
    monkeypatch.setattr(leases, "_holder", holder)
    yield holder
    cleanup.end_leases()


@pytest.fixture
def holder(transactional_db, own_leases, monkeypatch):
    """This process, as if it had just started to hold leases; what it does by itself is done by the tests."""
    monkeypatch.setattr(own_leases, "renew_for_ever", lambda stopped: None)
    own_leases.start()
    return own_leases


@pytest.fixture(autouse=True)
def unread_attempts():
    """This process has not looked for overdue attempts yet: tests travel in time."""
    expire._Reach.since = None


@pytest.fixture(autouse=True)
def empty_cache():
    cache.clear()

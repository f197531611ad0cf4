import os
import sys
import time

from celery import Celery
from celery.app.log import Logging
from kombu.transport import redis as redis_transport
from kombu.utils import functional as kombu_functional

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")


class SettingsLogging(Logging):
    """Leaves the logs to Django's settings: what is written, at which level, and what is hidden in it."""

    def setup_logging_subsystem(self, *args, **kwargs) -> None:
        self.already_setup = True


# At a lost connection kombu would put back what was not acknowledged yet, over a channel that is gone, and the worker
# would die of it. Messages are hints here: what one was about lies in the database.
redis_transport.Channel.do_restore = False

# gevent replaces time.sleep only after Celery's own import of that module, half-way through the patching; with the
# real one a worker whose broker is away would stand still as a whole between two tries to connect, with all its waits.
kombu_functional.sleep = time.sleep

if "gevent" in sys.modules:
    # By default each greenlet keeps the stack from which it was started, and there are thousands.
    sys.modules["gevent"].config.track_greenlet_tree = False

app = Celery("wkportal", log=SettingsLogging)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add("accounts.worker.LooksForWaits")

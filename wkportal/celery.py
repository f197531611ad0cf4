import os

from celery import Celery
from celery.app.log import Logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")


class SettingsLogging(Logging):
    """Leaves the logs to Django's settings: what is written, at which level, and what is hidden in it."""

    def setup_logging_subsystem(self, *args, **kwargs) -> None:
        self.already_setup = True


app = Celery("wkportal", log=SettingsLogging)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add("accounts.worker.LooksForWaits")

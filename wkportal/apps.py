from importlib import import_module

from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "wkportal"

    def ready(self) -> None:
        import_module("wkportal.celery")  # which sends the tasks of this process

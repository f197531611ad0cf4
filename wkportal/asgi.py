import gc
import os
import sys

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

try:
    databases = settings.DATABASES
except ImproperlyConfigured as error:
    sys.exit(f"wkportal cannot start: {error}")

# A worker can wait for an unreachable database, a person cannot: pages report it after a few seconds and try
# again soon after it is back.
databases["default"]["OPTIONS"].get("pool", {}).update(timeout=4, reconnect_timeout=2)

django_application = get_asgi_application()

from accounts.realtime import sse  # noqa: E402 - its models need Django to be set up

application = sse.outside(django_application)

# Everything loaded so far lives as long as the process. Scanning it for garbage would repeatedly stop every
# request and every stream of this process for a tenth of a second.
gc.collect()
gc.freeze()
gc.set_threshold(2000, 20, 50)

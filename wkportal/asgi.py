import gc
import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from wkportal.env import exit_if_misconfigured
from wkportal.http_limits import limited

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

with exit_if_misconfigured():
    databases = settings.DATABASES

# A worker can wait for an unreachable database, a person cannot: pages report it after a few seconds and try
# again soon after it is back.
databases["default"]["OPTIONS"].get("pool", {}).update(timeout=4, reconnect_timeout=2)

django_application = get_asgi_application()

from accounts.realtime import connects  # noqa: E402 - its models need Django to be set up

application = limited(connects.outside(django_application))

# Everything loaded so far lives as long as the process. Scanning it for garbage would repeatedly stop every
# request and every stream of this process for a tenth of a second.
gc.collect()
gc.freeze()
gc.set_threshold(2000, 20, 50)

import gc
import os

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

# A worker is patient with a database that is away, a person is not: pages say so after a few seconds, and ask again
# soon after it is back.
settings.DATABASES["default"]["OPTIONS"].get("pool", {}).update(timeout=4, reconnect_timeout=2)

django_application = get_asgi_application()

from accounts.realtime import sse  # noqa: E402 - its models need Django to be set up

application = sse.outside(django_application)

# What is loaded by now stays for ever: looking through it for garbage would stop every request and every stream of
# this process for a tenth of a second, again and again.
gc.collect()
gc.freeze()
gc.set_threshold(2000, 20, 50)

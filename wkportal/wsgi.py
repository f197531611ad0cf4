import os

from django.core.wsgi import get_wsgi_application

from wkportal.env import exit_if_misconfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")

with exit_if_misconfigured():
    application = get_wsgi_application()

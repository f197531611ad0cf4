#!/usr/bin/env python
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line

        from wkportal.local import services
    except ImportError as error:
        sys.exit(
            f"{error}. `make run` installs what is needed into .venv; then use .venv/bin/python manage.py."
        )
    try:
        if sys.argv[1:2] == ["up"]:
            services.prepare()  # the settings need the values that this chooses or generates
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"wkportal cannot start: {error}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wkportal.settings")
    try:
        from django.core.management import execute_from_command_line

        from wkportal.env import exit_if_misconfigured
    except ImportError as error:
        sys.exit(
            f"{error}. `make run` installs what is needed into .venv; then use .venv/bin/python manage.py."
        )
    with exit_if_misconfigured():
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    if sys.argv[1:] == ["up"]:  # without Django, which it would keep in memory as long as the portal runs
        from wkportal.local import up

        up.main()
    main()

"""Which records are written, where and how: the value of Django's setting LOGGING."""


def logging_config(level: str, form: str, secrets: list[str], sentry: tuple[str, str] | None) -> dict:
    """`form`: text or json. `sentry`: a DSN and the name of this installation."""
    handlers = {
        "console": {"class": "logging.StreamHandler", "formatter": form, "filters": ["context"]},
        "nowhere": {"class": "logging.NullHandler"},
    }
    if sentry:
        handlers["sentry"] = {
            "()": "wkportal.logs.sentry.handler",
            "dsn": sentry[0],
            "environment": sentry[1],
            "secrets": secrets,
            "filters": ["context"],
        }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {
                "()": "wkportal.logs.redaction.RedactingFormatter",
                "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
                "secrets": secrets,
            },
            "json": {"()": "wkportal.logs.redaction.RedactingJsonFormatter", "secrets": secrets},
        },
        "filters": {"context": {"()": "accounts.metrics.log_context.Context"}},
        "handlers": handlers,
        "root": {"handlers": [name for name in handlers if name != "nowhere"], "level": level},
        "loggers": LOGGERS,
    }


LOGGERS = {
    # At DEBUG these log request paths, SQL parameters or message bodies, which include addresses and
    # secrets.
    "urllib3": {"level": "WARNING"},
    "django.db.backends": {"level": "WARNING"},
    "PIL": {"level": "WARNING"},
    "axes": {"level": "WARNING"},
    # It logs addresses, which are secrets. Its errors are stored with the delivery.
    "apprise": {"level": "WARNING", "handlers": ["nowhere"], "propagate": False},
    # The access log has a line for each answer. Only for ours, 500 and above, this adds a traceback.
    "django.request": {"level": "ERROR"},
    # One line per run of a task that runs every 2 s carries no information.
    "celery.app.trace": {"level": "WARNING"},
    "celery.worker.strategy": {"level": "WARNING"},
    "celery.beat": {"level": "WARNING"},
    "celery.utils.functional": {"level": "WARNING"},
}

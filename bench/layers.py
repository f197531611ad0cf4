"""Where a login's processor time goes, by layer: reads what `bench.sampler` counted.

    python -m bench.layers samples.json

Two questions of each stack: in whose code the time passed (the innermost frame that has an owner; the standard
library has none), and on whose behalf (the step of ours that is innermost in it).
"""

import collections
import json
import sys
from pathlib import Path

# The first that is in a file's path owns its frames.
OWNERS = (
    ("/accounts/", "our own code"),
    ("/wkportal/", "our own code"),
    ("/django/", "Django ORM"),
    ("/psycopg", "psycopg"),
    ("/urllib3/", "requests, urllib3"),
    ("/requests/", "requests, urllib3"),
    ("/kombu/", "Celery, kombu"),
    ("/celery/", "Celery, kombu"),
    ("/vine/", "Celery, kombu"),
    ("/amqp/", "Celery, kombu"),
    ("/billiard/", "Celery, kombu"),
    ("/redis/", "redis-py"),
    ("/gevent/", "gevent"),
    ("/greenlet/", "gevent"),
    ("/cryptography/", "cryptography"),
    ("/json/", "JSON"),
)
# What the work of no step of ours is for: the first whose function is in the stack.
BESIDE = (
    ("trace_task", "(Celery around a task)"),
    ("drain_events", "(Celery reads its messages)"),
    ("apply_target", "(Celery's pool)"),
)
# How the worker came to run at all is in every stack.
STARTING = (
    "runpy>",
    "/click/",
    "/bench/",
    "/celery/bin/",
    "__main__.py",
    "bootsteps.py",
    "/consumer/",
    "/worker.py",
)
NOBODY = "standard library, other"


def owner(file: str) -> str:
    return next((name for part, name in OWNERS if part in file), "")


def in_whose_code(stack: list) -> str:
    return next((found for _name, file in reversed(stack) if (found := owner(file))), NOBODY)


def on_whose_behalf(stack: list) -> str:
    """module.function of ours that is innermost, or what Celery does around a task, or beside all tasks."""
    for name, file in reversed(stack):
        if "/accounts/" in file:
            return f"{Path(file).stem}.{name}"
    names = {name.rpartition(".")[2] for name, _file in stack}
    return next((title for name, title in BESIDE if name in names), "(the rest)")


def shares(samples: list, question) -> list[tuple[str, float]]:
    """[(answer, share of all samples)], the largest first."""
    found: collections.Counter[str] = collections.Counter()
    for stack, count in samples:
        found[question(stack)] += count
    total = sum(found.values()) or 1
    return [(name, count / total) for name, count in found.most_common()]


def functions(samples: list) -> list[tuple[str, float]]:
    """Functions by the share of samples that have them anywhere in the stack."""
    found: collections.Counter[str] = collections.Counter()
    for stack, count in samples:
        known = [(name, file) for name, file in stack if owner(file) and not any(s in file for s in STARTING)]
        for entry in {f"{Path(file).parent.name}/{Path(file).name}:{name}" for name, file in known}:
            found[entry] += count
    total = sum(count for _stack, count in samples) or 1
    return [(name, count / total) for name, count in found.most_common()]


def report(samples: dict[str, list], milliseconds: dict[str, float], most: int = 45) -> str:
    """A table for each part; `milliseconds` per login of a part turn shares into times."""
    lines = []
    for part, each in milliseconds.items():
        here = samples.get(part, [])
        lines.append(
            f"\n{part}: {each:.2f} ms of processor time per login, {sum(c for _s, c in here)} samples"
        )
        for title, rows in (
            ("in whose code", shares(here, in_whose_code)),
            ("on whose behalf", shares(here, on_whose_behalf)),
            ("anywhere in the stack", functions(here)[:most]),
        ):
            lines.append(f"  {title}")
            lines += [
                f"    {share * each:6.2f} ms {share:6.1%}  {name}" for name, share in rows if share >= 0.005
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text())
    print(report(found, dict.fromkeys(found, 1.0)))

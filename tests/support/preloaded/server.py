"""Forks the product's processes: `python -m tests.support.preloaded.server FD [gevent]`, FD its end of a socket pair.

It has loaded the packages that the product is built on, and nothing that reads a setting: each child reads its own
from the environment that it is given, and goes on as `python manage.py ...` or `python -m celery ...` does. With
`gevent` the packages were loaded after Celery's patches, as in a worker that runs with `-P gevent`.

A request is a JSON object and four file descriptors: the child's input, output and errors, and a pipe. Into the pipe
go the child's process id and, when it has ended, its exit code, one a line.
"""

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from os import fork, pidfd_open, waitpid  # gevent replaces the first and the last in `os`
from select import POLLIN, poll

MODULES = [
    "apprise",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.fixups.django",
    "celery.worker.consumer",
    "cronsim",
    "cryptography.fernet",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "django.contrib.admin.options",
    "django.contrib.auth.hashers",
    "django.contrib.auth.password_validation",
    "django.core.handlers.asgi",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base",
    "environ",
    "ijson",
    "kombu.transport.redis",
    "openpyxl",
    "PIL.ImageOps",
    "psycopg_pool",
    "requests",
    "segno",
    "uvicorn.protocols.http.httptools_impl",
    "whitenoise.middleware",
    "zxingcpp",
]


def load(with_gevent: bool) -> None:
    # Its patches come before everything else.
    import_module("celery").maybe_patch_concurrency(["celery", "-P", "gevent"] if with_gevent else ["celery"])
    for name in MODULES:
        import_module(name)
    assert not import_module("django.conf").settings.configured
    gc.collect()
    gc.freeze()  # what all children share is not looked at again in each of them


def serve(requests: socket.socket) -> dict | None:
    """Fork a child for each request. Returns the request in the child, and None at the end, when nobody asks any more."""
    poller, running = poll(), {}
    poller.register(requests, POLLIN)
    while True:
        for ready, _event in poller.poll():
            if ready in running:
                poller.unregister(ready)
                report_end(ready, *running.pop(ready))
                continue
            message, descriptors, _flags, _address = socket.recv_fds(requests, 1 << 20, 4)
            if not message:
                return None
            pid = fork()
            if pid == 0:
                take_over(descriptors)
                for descriptor in {requests.detach(), *running, *(pipe for _pid, pipe in running.values())}:
                    os.close(descriptor)
                return json.loads(message)
            pipe = descriptors.pop()
            for descriptor in descriptors:
                os.close(descriptor)
            tell(pipe, pid)
            ended = pidfd_open(pid)
            running[ended] = pid, pipe
            poller.register(ended, POLLIN)


def report_end(ended: int, pid: int, pipe: int) -> None:
    tell(pipe, os.waitstatus_to_exitcode(waitpid(pid, 0)[1]))
    os.close(pipe)
    os.close(ended)


def tell(pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
        os.write(pipe, f"{number}\n".encode())


def take_over(descriptors: list[int]) -> None:
    """The given input, output and errors become the child's own."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "gevent" in sys.modules:
        import_module("gevent").reinit()


def become(request: dict) -> None:
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["command"]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then close the socket
    # Made before gevent's patches: it blocks as it did.
    own = socket.socket(fileno=int(sys.argv[1]))
    load(sys.argv[2:] == ["gevent"])
    if asked := serve(own):
        become(asked)

"""Runs a program on a host whose clock is wrong: `python -m tests.support.clock_skew 600 -m celery -A wkportal worker`.

What asks Python for the time of day, `time.time` or a `datetime`, is told so many seconds more; the monotonic clock
is right, as it is on a real host whose clock is set wrong.
"""

import datetime
import runpy
import sys
import time


def skew(seconds: float) -> None:
    """Before anything else is imported, which would keep what it found."""
    real_time, real_class = time.time, datetime.datetime
    shift = datetime.timedelta(seconds=seconds)

    class Either(type):
        """What a library made is one of them too."""

        def __instancecheck__(cls, instance) -> bool:
            return isinstance(instance, real_class)

        def __subclasscheck__(cls, other) -> bool:
            return issubclass(other, real_class)

    class Skewed(real_class, metaclass=Either):
        @classmethod
        def now(cls, tz=None):
            return real_class.now(tz) + shift

        @classmethod
        def utcnow(cls):
            return real_class.utcnow() + shift

    time.time = lambda: real_time() + seconds
    datetime.datetime = Skewed


if __name__ == "__main__":
    skew(float(sys.argv[1]))
    module = sys.argv[3]  # behind -m
    sys.argv = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

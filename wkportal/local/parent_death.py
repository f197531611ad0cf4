"""Ends processes when the process that started them dies, in whatever way.

Run as a script, with the standard library only:

    parent_death.py guard [FILE ...]
        Reads a pipe whose other end only the supervisor has. "+12" reports that process group 12 started,
        "-12" that it ended. When the pipe closes, kills the groups that are left and removes the files.
    parent_death.py exec PARENT COMMAND ...
        Asks the kernel (Linux) to kill this process when PARENT dies, then becomes COMMAND.

The guard reaches grandchildren and works on every system. The kernel kills even without the guard.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def guard(files: list[str]) -> None:
    groups = set()
    for line in sys.stdin:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for name in files:
        with contextlib.suppress(FileNotFoundError):
            os.remove(name)


def become(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is meant
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}.")


if __name__ == "__main__":
    if sys.argv[1] == "guard":
        guard(sys.argv[2:])
    else:
        become(int(sys.argv[2]), sys.argv[3:])

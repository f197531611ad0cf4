"""Creates the virtual environments that `make run`, `make test` and `make lock` use. Standard library only.

    python3 bootstrap.py run      .venv with the packages that the product needs on one machine
    python3 bootstrap.py test     the same and the packages that the tests need
    python3 bootstrap.py lock     var/tools with the tool that writes the requirements files

The packages are checked against the hashes in the requirements files. A stamp records what was installed, so
that the next call returns immediately.
"""
# ruff: noqa: S603, S606, T201

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time

OLDEST = (3, 11)
VERSION = platform.python_version()
HERE = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENTS = {
    "run": (".venv", "requirements-local.txt"),
    "test": (".venv", "requirements-dev.txt"),
    "lock": ("var/tools", "uv==0.13.*"),
}
HINT = (
    "On Debian and Ubuntu: apt-get install python3-venv, as root. Elsewhere: install pip for {python}, or uv, "
    "or name another Python: PYTHON=python3.13 make run."
)


class Failed(Exception):
    """Raised with a sentence for people."""


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in ENVIRONMENTS:
        sys.exit("Usage: python3 bootstrap.py " + "|".join(ENVIRONMENTS))
    if sys.version_info < OLDEST:
        use_newer_python()
    folder, wanted = ENVIRONMENTS[kind]
    try:
        prepare(os.path.join(HERE, folder), wanted)
    except Failed as failure:
        sys.exit(str(failure))


def use_newer_python() -> None:
    for minor in (13, 12, 11, 14):
        newer = shutil.which(f"python3.{minor}")
        if newer and subprocess.call([newer, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(newer, [newer, os.path.abspath(__file__), *sys.argv[1:]])
    sys.exit(
        f"wkportal needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and this is {VERSION}. "
        "Install one and name it, for example: PYTHON=python3.13 make run"
    )


def prepare(folder: str, wanted: str) -> None:
    """Make `folder` a virtual environment that contains `wanted`, a requirements file or one package.

    Does nothing if the stamp says that `wanted` is installed for this Python version. Raises Failed.
    """
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, "installed." + wanted.partition("=")[0])
    state = f"{VERSION} {fingerprint(wanted)}"
    if os.path.exists(python) and read(stamp) == state:
        return
    if not os.path.exists(python) or read(os.path.join(folder, "python-version")) != VERSION:
        print(f"Making {os.path.relpath(folder)} with Python {VERSION} ...", flush=True)
        make(folder)
    print(f"Installing {wanted} (a minute on a slow line) ...", flush=True)
    began = time.monotonic()
    install(folder, wanted)
    write(stamp, state)
    if wanted == "requirements-dev.txt":  # it includes the other one
        local = "requirements-local.txt"
        write(os.path.join(folder, "installed." + local), f"{VERSION} {fingerprint(local)}")
    print(f"Installed in {time.monotonic() - began:.0f} seconds.", flush=True)


def make(folder: str) -> None:
    """Create a virtual environment in the first way that works: venv, venv without pip, uv. Raises Failed.

    Replaces an environment that exists.
    """
    ways = [[sys.executable, "-m", "venv", folder], [sys.executable, "-m", "venv", "--without-pip", folder]]
    if not runs([sys.executable, "-m", "pip", "--version"]):
        del ways[1]  # an environment without pip needs another pip
    if shutil.which("uv"):
        ways.append(["uv", "venv", "--quiet", "--python", sys.executable, folder])
    said = []
    for way in ways:
        shutil.rmtree(folder, ignore_errors=True)  # a missing ensurepip leaves an incomplete environment
        done = subprocess.run(way, capture_output=True, text=True)
        if done.returncode == 0:
            write(os.path.join(folder, "python-version"), VERSION)
            return
        said.append(done.stdout + done.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    raise Failed(
        "".join(said) + "\nNo virtual environment could be made. " + HINT.format(python=sys.executable)
    )


def install(folder: str, wanted: str) -> None:
    python = os.path.join(folder, "bin", "python")
    what = ["--require-hashes", "-r", os.path.join(HERE, wanted)] if wanted.endswith(".txt") else [wanted]
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "install"]
    if runs([python, "-m", "pip", "--version"]):
        command = [python, "-m", "pip", *options]
    elif runs([sys.executable, "-m", "pip", "--version"]):
        command = [sys.executable, "-m", "pip", "--python", python, *options]
    elif shutil.which("uv"):
        command = ["uv", "pip", "install", "--quiet", "--python", python]
    else:
        raise Failed("There is no pip to install with. " + HINT.format(python=sys.executable))
    environment = dict(os.environ, PIP_ROOT_USER_ACTION="ignore")
    done = subprocess.run([*command, *what], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise Failed(f"{done.stdout}{done.stderr}\nInstalling {wanted} failed; the reason is above.")


def runs(command: list) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def fingerprint(wanted: str) -> str:
    path = os.path.join(HERE, wanted)
    return hashlib.sha256(open(path, "rb").read() if os.path.exists(path) else wanted.encode()).hexdigest()


def read(path: str) -> str:
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        return file.read()
    return ""


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()

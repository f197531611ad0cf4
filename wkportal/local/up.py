"""`manage.py up`: prepares, then starts and supervises everything that runs on one machine. Does not depend on Django."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wkportal.local import preparation
from wkportal.local.supervisor import (
    PARENT_DEATH,
    Process,
    Step,
    Supervisor,
    http_answers,
    port_answers,
    with_metrics_ports,
)

# Celery's messages between workers are of no use here, and cost one message per worker every few seconds.
ALONE = ["--without-gossip", "--without-mingle", "--without-heartbeat"]


@dataclass(frozen=True)
class Prepared:
    """What `manage.py up --prepare` prints."""

    sign_in: str
    has_new_password: bool  # which `sign_in` shows, once
    hosts: list[str]
    slots: int
    log_level: str
    metrics_port: int | None


def main() -> None:
    plan = preparation.prepare()
    prepared = prepare(plan)
    alive = plan.var_dir / "alive"
    shutil.rmtree(alive, ignore_errors=True)
    alive.mkdir(mode=0o700)
    # Stopped in reverse: beat sends no more work, then the workers and the web end, and the broker last.
    processes = [web(plan, prepared), waits(alive, prepared), jobs(alive, prepared), beat(prepared)]
    stages = [
        valkey(plan),
        Step("second terminal", plan.write_run_file),
        simulator(plan),
        with_metrics_ports(prepared.metrics_port, processes),
    ]
    shown = False

    def announcement() -> str:
        nonlocal shown
        shown = True
        return what_runs(plan, prepared)

    try:
        code = Supervisor(stages, announcement, remove=[plan.run_file]).run()
    finally:
        if prepared.has_new_password and not shown:  # generated, but the start failed before
            sys.stdout.write(f"{prepared.sign_in}\n")
    sys.exit(code)


def prepare(plan: preparation.Plan) -> Prepared:
    """Make the database and the static files ready, in a process of its own. Ends this one if that fails: it said why."""
    command = [*PARENT_DEATH, "exec", str(os.getpid()), sys.executable, sys.argv[0], "up", "--prepare"]
    broker = ["--own-broker"] if plan.valkey_command else []
    done = subprocess.run([*command, *broker], stdout=subprocess.PIPE, check=False)  # noqa: S603 - our own command
    if done.returncode:
        sys.exit(done.returncode if done.returncode > 0 else 128 - done.returncode)
    return Prepared(**json.loads(done.stdout))


def what_runs(plan: preparation.Plan, prepared: Prepared) -> str:
    lines = ["", f"  wkportal runs: {plan.web_address}", "", prepared.sign_in]
    if plan.simulator_address:
        lines.append(f"    upstream   simulated at {plan.simulator_address}/ (WK_BASE_URL is not set)")
    if not preparation.is_loopback(plan.host):
        names = [name for name in prepared.hosts if not preparation.is_loopback(name.strip("[]"))]
        lines.append(f"    network    {', '.join(f'http://{name}:{plan.port}/' for name in names)}")
    return "\n".join([*lines, "", "  Ctrl-C stops everything.", "", ""])


# --- the processes -------------------------------------------------------------------------------------


def valkey(plan: preparation.Plan) -> list[Process]:
    if not plan.valkey_command:
        return []
    hint = f"Its last words are in {plan.valkey_log}."
    return [
        Process("valkey", plan.valkey_command, ready=partial(preparation.valkey_answers, plan), hint=hint)
    ]


def simulator(plan: preparation.Plan) -> list[Process]:
    if not plan.simulator_command:
        return []
    host, port = preparation.reachable(plan.host), int(plan.simulator_address.rpartition(":")[2])
    return [Process("simulator", plan.simulator_command, ready=partial(port_answers, host, port))]


def web(plan: preparation.Plan, prepared: Prepared) -> Process:
    command = [sys.executable, sys.argv[0], "serve", "--host", plan.host, "--port", str(plan.port)]
    named = [host.lstrip(".") for host in prepared.hosts if host != "*"]
    header = named[0] if named else "localhost"
    ready = partial(http_answers, preparation.reachable(plan.host), plan.port, "/healthz", header)
    return Process("web", command, ready=ready)


def waits(alive: Path, prepared: Prepared) -> Process:
    # An idle one takes up to 8 s to stop: Celery reads messages for two more rounds of 2 to 3 s, and closes its
    # remote control within 2 s. A wait that is cut off by the end of the grace is resumed from its row.
    # A few more greenlets than slots: a full pool would stop Celery from reading its messages.
    slots = str(prepared.slots + 100)
    return worker("waits", ["-P", "gevent", "-c", slots, *ALONE], alive, prepared)


def jobs(alive: Path, prepared: Prepared) -> Process:
    return worker("jobs", ["-P", "threads", "-c", "4", *ALONE], alive, prepared)


def worker(queue: str, arguments: list[str], alive: Path, prepared: Prepared) -> Process:
    command = [*celery("worker", prepared), "-Q", queue, "-n", f"{queue}@%h", *arguments]
    path = alive / queue

    async def ready() -> bool:
        return path.exists()

    return Process(queue, command, ready=ready, env={"ALIVE_PATH": str(path)})


def beat(prepared: Prepared) -> Process:
    return Process("beat", celery("beat", prepared))


def celery(kind: str, prepared: Prepared) -> list[str]:
    # root may run it on a test machine; Celery's warning about root would fill the first screen.
    command = [sys.executable, "-W", "ignore::Warning:celery.platforms", "-m", "celery", "-A", "wkportal"]
    return [*command, "--quiet", "--skip-checks", kind, "-l", prepared.log_level]

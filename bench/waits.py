"""What it costs to hold thousands of waits, and how soon an answer is in the database.

    python -m bench.waits hold steady burst starts prefork two growth profile [-n 1000] [--rate 100] [--json FILE]

Each run begins logins as the web does (a row, then a message), on PostgreSQL and Valkey of its own, against a
stand-in for the upstream that costs almost nothing, with answers after seconds instead of minutes. In the same run
the same logins are done by a reference: an asyncio client that holds the calls, and writes the rows that the product
writes through the same ORM from eight threads. The figures to trust are the ratios; the others belong to this machine.

- hold: N waits, answered one after another; memory, processor time, and delivery: from the moment an answer left the
  upstream to the commit of the login, by PostgreSQL's own clock
- steady: N waits held all the time, as many begun as answered
- burst: the same with all answers within 0.3 s
- starts: logins begun by a message each, found in the database by the worker, and with the code still to be asked for
- prefork: memory per wait with Celery's default pool, against gevent's
- two: two workers; one is killed in the middle
- growth: 1,000, 3,000 and 10,000 waits
- profile: where a login's processor time goes
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import django

from bench import gauges
from bench.rig import Rig

RUNS = ("hold", "steady", "burst", "starts", "prefork", "two", "growth", "profile")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", default=["hold"], metavar="run", help=f"of {', '.join(RUNS)}")
    parser.add_argument("-n", type=int, default=1000, help="waits (%(default)s)")
    parser.add_argument("--rate", type=float, default=100, help="answers a second (%(default)s)")
    parser.add_argument("--within", type=float, default=0.3, help="seconds of a burst (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of hold, burst and starts (%(default)s)")
    parser.add_argument("--children", type=int, default=20, help="of prefork (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000], help="of growth")
    parser.add_argument("--profile", action="store_true", help="the same as the run of that name")
    parser.add_argument(
        "--quiet", type=float, default=0, help="wait up to so many seconds for a quiet machine"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="put the data of database and broker there; /dev/shm takes the disk out of it",
    )
    parser.add_argument("--logs", type=Path, help="keep what the measured processes wrote in this folder")
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of everything here, on a busy machine; -10 needs root"
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    if unknown := set(options.runs) - set(RUNS):
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    if options.logs:
        options.logs.mkdir(parents=True, exist_ok=True)
    options.runs += ["profile"] if options.profile and "profile" not in options.runs else []
    return options


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    found: dict[str, object] = {"options": {k: str(v) for k, v in vars(options).items()}}
    with Rig(options.folder, options.logs, options.nice) as rig:
        os.environ.update(rig.env)
        rig.migrate()
        django.setup()
        # Only now: their models need the settings, and those the rig's addresses.
        bench = importlib.import_module("bench.compare").Bench(rig, options)
        crash = importlib.import_module("bench.crash")
        for name in options.runs:
            report = crash.two_workers(bench) if name == "two" else getattr(bench, name)()
            print(report)
            others = gauges.wait_for_quiet(0)
            print(
                f"  load average {os.getloadavg()[0]:.2f}, others now take {others:.2f} of a core", flush=True
            )
            found[name] = report.data
            if options.json:
                options.json.write_text(json.dumps(found | {"at": time.time()}, indent=1, default=str))


if __name__ == "__main__":
    main()

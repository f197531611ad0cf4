"""Whether logins notice that old history is deleted: the same logins with and without `manage.py prune` beside them.

Both runs have the old events in the table; the one without `prune` is the reference. At the end `prune` goes on alone.
"""

import time

from bench import report
from bench.processes import CpuUsage, Process, until, wait_for_count
from bench.services import start_services

options = report.parser(__doc__, events=5_000_000, n=3000, rate=100.0).parse_args()
services = start_services()

from bench.waits.logins import Run, Worker, execute

P99, AIM_RATIO = "answer sent to row committed: p99, ms", 1.5
# As the product writes them, in the order of their times.
SEED = """
    INSERT INTO accounts_accountevent (account_id, happened, from_state, to_state, reason, detail, actor_name, at)
    SELECT (SELECT min(id) FROM accounts_account), 'attempt_moved', 'waiting', 'expired', 'not_scanned', '', '',
           now() - interval '500 days' + n * interval '1 second' FROM generate_series(1, %s) n
"""
OLD = "SELECT count(*) FROM accounts_accountevent WHERE at < now() - interval '400 days'"


def deleted() -> int:
    return options.events - execute(OLD)[0][0]


class Alone(Run):
    def warm_up(self) -> None:
        super().warm_up()
        execute(SEED, options.events)
        execute("VACUUM ANALYZE accounts_accountevent")


class Beside(Alone):
    def answer(self, how: dict[str, float]) -> CpuUsage:
        log, began = services.folder / "prune.log", time.monotonic()
        with Process(["manage.py", "prune"], services.env, log) as prune:
            until(deleted, lambda: f"nothing is deleted: {prune.log.read_text()}")
            usage = super().answer(how)
            self.figures["old events deleted meanwhile"] = deleted()
            if wait_for_count(options.events, deleted, every=1)[0] < options.events:
                raise TimeoutError(f"not all are deleted: {prune.log.read_text()}")
            self.figures["all are deleted after, s"] = time.monotonic() - began
        return usage


def main() -> None:
    without, beside = (kind(Worker(services, options.n), options.n, options.rate) for kind in (Alone, Beside))
    print(*without.warnings, *beside.warnings, sep="\n")
    aims = {P99: AIM_RATIO * without.figures[P99]}
    report.finish(report.figures(beside.figures, without.figures, aims), options)


main()

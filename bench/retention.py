"""Whether logins notice that old history is deleted: the same logins with and without `manage.py prune` beside them.

    python -m bench.retention [--events 5000000] [-n 3000] [--rate 100]

Both runs have the old events in the table. The first numbers are of the run with `prune`, the reference is without. At the
end `prune` goes on alone until all are deleted.
"""

import time

from bench import report
from bench.processes import Process, wait_for_count, wait_until
from bench.services import start_services

AIM_RATIO = 1.5
# As the product writes them, in the order of their times.
SEED = """
    INSERT INTO accounts_accountevent (account_id, happened, from_state, to_state, reason, detail, actor_name, at)
    SELECT (SELECT min(id) FROM accounts_account), 'attempt_moved', 'waiting', 'expired', 'not_scanned', '', '',
           now() - interval '500 days' + n * interval '1 second' FROM generate_series(1, %s) n
"""


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--events", type=int, default=5_000_000, help="old ones (%(default)s)")
    parser.add_argument("-n", type=int, default=3000, help="logins (%(default)s)")
    parser.add_argument("--rate", type=float, default=100, help="answers a second (%(default)s)")
    options = parser.parse_args()
    with start_services() as services:
        services.set_up_django()
        from bench.waits import attempts
        from bench.waits.clients import Run, Worker

        def deleted() -> int:
            old = "SELECT count(*) FROM accounts_accountevent WHERE at < now() - interval '400 days'"
            return options.events - attempts.execute(old)[0][0]

        class Beside(Run):
            """`with_prune` tells whether old events are deleted while the phones are answered."""

            with_prune = True

            def warm_up(self) -> None:
                super().warm_up()
                attempts.execute(SEED, options.events)
                attempts.execute("VACUUM ANALYZE accounts_accountevent")

            def answer(self, how: dict[str, float], later: list[int]):
                if not self.with_prune:
                    return super().answer(how, later)
                command, log = ["manage.py", "prune"], services.folder / "prune.log"
                with Process(command, services.env, log) as prune:
                    began = time.monotonic()
                    wait_until(deleted, 60, f"nothing is deleted: {log}")
                    usage = super().answer(how, later)
                    self.figures["old events deleted meanwhile"] = deleted()
                    if wait_for_count(options.events, deleted, every=1)[0] < options.events:
                        raise TimeoutError(f"not all are deleted: {prune.log}")
                    self.figures["all are deleted after, s"] = time.monotonic() - began
                return usage

        class Alone(Beside):
            with_prune = False

        without, beside = (
            kind(Worker(services, options.n), options.n, options.rate) for kind in (Alone, Beside)
        )
    print(*without.warnings, *beside.warnings, sep="\n")
    figures = [
        report.Figure(name, value, without.figures.get(name)) for name, value in beside.figures.items()
    ]
    p99 = next(figure for figure in figures if "p99" in figure.name)
    report.finish(
        figures, options, report.comparison(figures), f"p99: {p99.ratio:.2f} times, aim {AIM_RATIO}"
    )


if __name__ == "__main__":
    main()

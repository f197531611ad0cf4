"""What it costs to hold thousands of waits, and how soon an answer is in the database.

    python -m bench.waits hold steady burst prefork two growth [-n 1000] [--rate 100]

Logins begin as by the web (a row, then a message), on PostgreSQL and Valkey, against an upstream that costs almost nothing
and answers after seconds instead of minutes. The reference is an asyncio client that holds the same calls and writes the
same rows through the same ORM from eight threads. Trust the ratios.

hold: N waits, answered one after another; steady: as many begun as answered; burst: all answered within 0.3 s;
prefork: with Celery's prefork pool; two: two workers, one is killed; growth: hold with several numbers of waits.
"""

from bench import report
from bench.services import start_services


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("runs", nargs="+", choices=("hold", "steady", "burst", "prefork", "two", "growth"))
    parser.add_argument("-n", type=int, default=1000, help="waits (%(default)s)")
    parser.add_argument("--rate", type=float, default=100, help="answers a second (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000], help="of growth")
    options = parser.parse_args()
    with start_services() as services:
        services.set_up_django()
        from bench.waits.runs import run

        report.finish(run(services, options), options)


main()

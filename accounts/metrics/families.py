"""What each process counts for Prometheus. No label names a person, an account or a login.

A process counts what it did itself, since its start: the sum over all processes is what the portal did. What the
database knows is not counted here but read from it (`accounts.status.exposition`).
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # a second series for each counter, which Prometheus does not use

LOGINS = Counter("wkportal_logins", "Logins that ended.", ("outcome", "method", "trigger"))
LOGIN_FAILURES = Counter("wkportal_login_failures", "Logins that failed or timed out.", ("reason",))
SCAN_SECONDS = Histogram(
    "wkportal_scan_seconds",
    "From the QR code to the login, for logins that succeeded.",
    buckets=(5, 10, 15, 20, 30, 45, 60, 90, 120, 150),
)
CLAIMS_RESUMED = Counter("wkportal_claims_resumed", "Waits that a worker took over from another one.")
WAITS = Gauge("wkportal_waits_in_flight", "Logins that this waits worker holds.")
SLOTS = Gauge("wkportal_wait_slots", "Logins that this waits worker can hold.")
UPSTREAM_SECONDS = Histogram(
    "wkportal_upstream_call_seconds",
    "Calls to WKTeam. Result: ok, refused (it answered no), or the kind of failure.",
    ("path", "result"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 180),
)
DROPS = Counter("wkportal_drops", "Accounts that went offline.", ("kind", "detected_by"))
STREAMS = Gauge("wkportal_streams", "Live pages that this process sends events to.")
DELIVERIES = Counter(
    "wkportal_deliveries", "Deliveries of notifications: sent, failed, given_up.", ("result",)
)
HTTP_REQUESTS = Counter(
    "wkportal_http_requests", "Requests that Django answered.", ("view", "method", "status")
)
HTTP_SECONDS = Histogram(
    "wkportal_http_request_seconds",
    "Time until the answer to a request.",
    ("view",),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BEAT_TASKS = Counter("wkportal_beat_tasks_sent", "Periodic tasks that beat put into the queue.", ("task",))

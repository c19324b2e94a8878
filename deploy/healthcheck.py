"""Health checks for containers, which carry no curl: exit 0 when well, 1 with a reason on stderr when not.

    python deploy/healthcheck.py http http://127.0.0.1:8000/healthz
    python deploy/healthcheck.py heartbeat
    python deploy/healthcheck.py alive

`heartbeat` looks for a fresh row of this container in the table `workers`: every queue consumer and the orchestrator
write one every few seconds. A process that hangs, or that has lost the database, has none. `alive` is for what restarts
a container (Kubernetes): a restart brings neither database nor broker back, and it would end the steps that run.
"""

import socket
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 4.0
BEATS_MISSED = 5


def http(url: str) -> str | None:
    """Why the URL is not well; None when it answers with 2xx."""
    if not url.startswith(("http://", "https://")):
        return f"{url!r} is not an HTTP address"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment is no neighbour
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return None
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"


def heartbeat(host: str) -> str | None:
    """Why the consumer on this host is not well; None when it has written a heartbeat lately."""
    from sqlalchemy.exc import SQLAlchemyError

    from shared.db.engine import engine_for
    from shared.jobs.job_store import JobStore
    from shared.platform.settings import platform_settings

    settings = platform_settings()
    within = BEATS_MISSED * settings.renew.total_seconds()
    try:
        rows = JobStore(engine_for(settings.database)).live_workers(within)
    except SQLAlchemyError as error:
        return f"database: {type(error).__name__}"
    # A worker's id is service@host:pid
    if any(row.id.partition("@")[2].rpartition(":")[0] == host for row in rows):
        return None
    return f"no heartbeat of {host} within {within:.0f} s"


def alive(host: str) -> str | None:
    """As heartbeat, but None too while the database or the broker does not answer: without them no worker writes one."""
    reason = heartbeat(host)
    if reason is None or reason.startswith("database:"):
        return None
    from redis import Redis
    from redis.exceptions import RedisError

    from shared.platform.settings import platform_settings

    try:
        with Redis.from_url(platform_settings().redis_url, socket_timeout=TIMEOUT_S) as broker:
            broker.ping()
    except (RedisError, OSError):
        return None
    return reason


def main(argv: list[str]) -> int:
    match argv:
        case ["http", url]:
            reason = http(url)
        case ["heartbeat"]:
            reason = heartbeat(socket.gethostname())
        case ["alive"]:
            reason = alive(socket.gethostname())
        case _:
            reason = "usage: healthcheck.py http URL | heartbeat | alive"
    if reason:
        print(reason, file=sys.stderr)  # noqa: T201
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

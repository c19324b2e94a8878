"""Where state lives beside the databases: the data folder and the broker; and whether all clocks agree."""

import tempfile
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import redis

from services.local.doctor.finding import Finding, Installation, fail, ok, warn
from services.local.supervisor import broker
from shared.artifacts.objects import Objects, ObjectsUnavailable
from shared.contracts.errors import FatalError

ANSWER_S = 5.0
SKEW_S = 2.0  # leases are told by clocks that must agree to a few seconds


def data_folder(installation: Installation) -> Finding:
    """Whether this user may write there, tried by writing."""
    fix = "give this user the folder (`chown -R`), or name another one with --data or METEOR_DATA"
    here = [
        installation.data,
        *(folder for name in ("artifacts", "logs", "serving") if (folder := installation.data / name).exists()),
    ]
    try:
        installation.data.mkdir(parents=True, exist_ok=True)
        for folder in here:
            with tempfile.TemporaryFile(dir=folder, prefix=".tmp-") as file:
                file.write(b"written by the doctor")
    except OSError as error:
        return fail("data folder", f"{error.filename or installation.data} cannot be written: {error.strerror}", fix)
    return ok("data folder", str(installation.data.resolve()))


def object_storage(installation: Installation) -> Iterator[Finding]:
    """Writing, reading and deleting below METEOR_ARTIFACTS_URL, tried with an object; the clock of its server."""
    url = installation.platform.artifacts_url
    if not url:
        return
    objects, key, content = Objects(url), f"doctor/{uuid.uuid4().hex}", b"written by the doctor"
    try:
        began = time.time()
        for attempt in (True, False):
            if objects.create(key, content) is not attempt:
                fix = "take a store with conditional writes (If-None-Match), or the newest version of this one"
                yield fail("object storage", f"{url} overwrites an object that must not be overwritten", fix)
                return
        read, written = objects.get(key), objects.look(key)
        objects.delete([key])
        if read != content or written is None or objects.look(key) is not None:
            fix = "take a store that reads what was written and deleted (strong consistency)"
            yield fail("object storage", f"{url} does not give back what was just written", fix)
            return
    except ObjectsUnavailable as error:
        yield fail("object storage", error.reason, error.fix)
        return
    except FatalError as error:
        yield fail("object storage", error.message, "pip install --no-deps -r requirements/s3.lock")
        return
    yield ok("object storage", f"{url}: written, read and deleted in {time.time() - began:.1f} s")
    yield skew("the object storage", written.modified.timestamp() - began)


def message_broker(installation: Installation) -> Iterator[Finding]:
    """Reachable, never throwing away messages, keeping them on disk; its clock."""
    url = _broker_url(installation)
    if url is None:
        yield ok("broker", "not running; `meteor up` starts one of its own")
        return
    where = urlsplit(url).netloc.rpartition("@")[2]
    try:
        with redis.Redis.from_url(url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S) as client:
            info, (seconds, micro) = client.info(), client.time()
    except (redis.AuthenticationError, redis.ResponseError) as error:
        yield fail(
            "broker", f"{where} refuses us: {error}", "put the password into REDIS_URL: redis://:PASSWORD@HOST:PORT/0"
        )
        return
    except (redis.RedisError, ValueError) as error:
        fix = "start Redis or Valkey there, fix REDIS_URL, or unset it: then `meteor up` starts a broker of its own"
        yield fail("broker", f"{where} does not answer: {error}", fix)
        return
    yield _rules_of_broker(where, info)
    yield skew("the broker", seconds + micro / 1e6 - time.time())


def _broker_url(installation: Installation) -> str | None:
    """Of the given broker, or of this run's own. None when there is none to be asked."""
    if installation.local.redis_url or installation.run is None:
        return installation.local.redis_url or None
    own = next((row for row in installation.run.processes if row.name == "broker"), None)
    return broker.url(own.port, broker.password(installation.data)) if own and own.port else None


def _rules_of_broker(where: str, info: dict) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    message = f"{where}, version {info.get('valkey_version') or info.get('redis_version')}, {policy}"
    if policy != "noeviction":
        fix = "set `maxmemory-policy noeviction` in its configuration (deploy/redis.conf): else messages vanish under load"
        return fail("broker", message, fix)
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > 0.9 * limit:
        return fail(
            "broker", f"{message}, {used} of {limit} bytes used", "raise its maxmemory: it will refuse messages"
        )
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        return fail(
            "broker",
            f"{message}; its append-only file cannot be written",
            "free space on its disk, or fix its permissions",
        )
    if not info.get("aof_enabled"):
        return warn(
            "broker", f"{message}, no append-only file", "set `appendonly yes`: else a restart costs waiting messages"
        )
    return ok("broker", message)


def skew(whose: str, seconds: float) -> Finding:
    """seconds: how far the other clock is ahead of ours."""
    message = f"{whose} is {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}"
    if abs(seconds) <= SKEW_S:
        return ok("clock", message)
    fix = "set both clocks by NTP (`timedatectl set-ntp true`): leases of steps are told by them"
    return fail("clock", message, fix)

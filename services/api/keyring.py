"""Which API keys are valid. Answers from the database are cached for a second."""

import time
from typing import NamedTuple

from shared.contracts.errors import UserError
from shared.jobs.key_store import KeyStore
from shared.jobs.records import ApiKeyRecord
from shared.platform.http import same_secret
from shared.security.api_keys import LONGEST, PREFIX, keyed_hash

CACHED_S = 1.0  # a key revoked by another process stays valid for this long; in the revoking process it ends at once
USE_NOTED_EVERY_S = 60.0  # last_used_at is written this often at most


class NotAuthenticated(UserError):
    status = 401
    code = "invalid_api_key"


class _Cached(NamedTuple):
    record: ApiKeyRecord
    at: float


class Keyring:
    """`secret` keys the hashes. Only keys that exist are cached, so that wrong ones cannot fill the memory."""

    def __init__(self, store: KeyStore, secret: bytes):
        self._store = store
        self.secret = secret
        self._cached: dict[str, _Cached] = {}
        self._any_exists = False
        self._checked_at = -CACHED_S

    def cached(self, key: str) -> ApiKeyRecord | None:
        """A key that was looked up within the last second; no query. Raises NotAuthenticated."""
        if not _may_be_ours(key):
            return None
        entry = self._cached.get(keyed_hash(self.secret, key))
        return _valid(entry.record) if entry and time.monotonic() - entry.at < CACHED_S else None

    def look_up(self, key: str) -> ApiKeyRecord | None:
        """A key as the database has it; None for one that never existed. Raises NotAuthenticated."""
        if not _may_be_ours(key):
            return None
        digest = keyed_hash(self.secret, key)
        record = self._store.by_digest(digest)
        if record is None or not same_secret(digest, record.digest):
            return None
        self._cached[digest] = _Cached(record, time.monotonic())
        _valid(record)
        now = time.time()
        if now - (record.last_used_at or 0.0) > USE_NOTED_EVERY_S:
            self._store.note_use(record.id, now)
        return record

    def forget(self) -> None:
        """This process created or revoked a key: query the database again."""
        self._cached.clear()
        self._checked_at = -CACHED_S

    def cached_any(self) -> bool | None:
        """Whether any key exists; None when the database has to be queried again."""
        if self._any_exists:
            return True  # for good: keys are revoked, but never removed
        return False if time.monotonic() - self._checked_at < CACHED_S else None

    def any(self) -> bool:
        checked_at = time.monotonic()
        self._any_exists = self._store.any()
        self._checked_at = checked_at
        return self._any_exists


def _may_be_ours(key: str) -> bool:
    return key.startswith(PREFIX) and len(key) <= LONGEST


def _valid(record: ApiKeyRecord) -> ApiKeyRecord:
    if record.revoked_at is not None:
        raise NotAuthenticated(f"the API key {record.hint} was revoked", code="revoked_api_key")
    if record.expires_at is not None and record.expires_at <= time.time():
        raise NotAuthenticated(f"the API key {record.hint} has expired", code="expired_api_key")
    return record

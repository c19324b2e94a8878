"""Which API keys open, as each request asks. The database is looked at again after a second at the latest."""

import time
from typing import NamedTuple

from shared.contracts.errors import UserError
from shared.jobs.key_store import KeyStore
from shared.jobs.records import ApiKeyRecord
from shared.platform.http import same_secret
from shared.security.api_keys import LONGEST, PREFIX, keyed_hash

KNOWN_S = 1.0  # so long a key that was revoked elsewhere may still open; in the process that revoked it not at all
NOTED_EVERY_S = 60.0  # its last use is written so often at most


class NotAuthenticated(UserError):
    status = 401
    code = "invalid_api_key"


class _Seen(NamedTuple):
    row: ApiKeyRecord
    at: float


class Keyring:
    """`secret` keys the hashes. Only keys that exist are remembered, so that wrong ones cannot fill the memory."""

    def __init__(self, store: KeyStore, secret: bytes):
        self._store = store
        self.secret = secret
        self._seen: dict[str, _Seen] = {}
        self._closed = False
        self._looked = -KNOWN_S

    def known(self, key: str) -> ApiKeyRecord | None:
        """The row of a key that was looked up within the last second; asks nobody. Raises NotAuthenticated."""
        if not _may_be_ours(key):
            return None
        seen = self._seen.get(keyed_hash(self.secret, key))
        return _that_opens(seen.row) if seen and time.monotonic() - seen.at < KNOWN_S else None

    def look_up(self, key: str) -> ApiKeyRecord | None:
        """The row of a key as the database has it; None for one that never was. Raises NotAuthenticated."""
        if not _may_be_ours(key):
            return None
        digest = keyed_hash(self.secret, key)
        row = self._store.by_digest(digest)
        if row is None or not same_secret(digest, row.digest):
            return None
        self._seen[digest] = _Seen(row, time.monotonic())
        _that_opens(row)
        now = time.time()
        if now - (row.last_used_at or 0.0) > NOTED_EVERY_S:
            self._store.note_use(row.id, now)
        return row

    def forget(self) -> None:
        """A key was made or revoked: look at the database again."""
        self._seen.clear()
        self._looked = -KNOWN_S

    def knows_of_keys(self) -> bool | None:
        """Whether any key was ever made; None where the database has to be asked again."""
        if self._closed:
            return True  # for good: keys are never removed
        return False if time.monotonic() - self._looked < KNOWN_S else None

    def has_keys(self) -> bool:
        looked = time.monotonic()
        self._closed = self._store.any()
        self._looked = looked
        return self._closed


def _may_be_ours(key: str) -> bool:
    return key.startswith(PREFIX) and len(key) <= LONGEST


def _that_opens(row: ApiKeyRecord) -> ApiKeyRecord:
    if row.revoked_at is not None:
        raise NotAuthenticated(f"the API key {row.hint} was revoked", code="revoked_api_key")
    if row.expires_at is not None and row.expires_at <= time.time():
        raise NotAuthenticated(f"the API key {row.hint} has expired", code="expired_api_key")
    return row

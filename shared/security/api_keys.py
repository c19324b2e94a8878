"""API keys: `mk-` and 256 random bits, stored as a keyed hash.

The hash is HMAC-SHA-256, not a slow password hash: 256 random bits cannot be guessed, and every request computes it. Its secret is
stored outside the database, so a stolen database can neither be searched for keys nor be given a new one.
"""

import hashlib
import hmac
import secrets
import time

from shared.contracts.keys import KeyBudget, KeyChange, KeyObject, KeyRequest, KeySpent, NewKey
from shared.jobs.key_store import KeyStore
from shared.jobs.records import ApiKeyRecord
from shared.ledger.accounts import Limits
from shared.ledger.store import Ledger
from shared.platform.settings import PlatformSettings
from shared.security.secret_file import kept_secret

PREFIX = "mk-"
LONGEST = 200  # characters; longer keys are refused without hashing
SHOWN = 4  # characters of a hint at each end; 200 of the 256 bits stay unknown


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hint_of(key: str) -> str:
    """The ends of a key, to tell keys apart: `mk-abcd...wxyz`."""
    return f"{key[: len(PREFIX) + SHOWN]}...{key[-SHOWN:]}"


def hash_secret(platform: PlatformSettings) -> bytes:
    """METEOR_API_KEY_SECRET, or a file of the data folder, created on first use. Without it no key is valid."""
    given = platform.api_key_secret.get_secret_value()
    return (given or kept_secret(platform.data / "key-pepper")).encode()


def keyed_hash(secret: bytes, key: str) -> str:
    """64 hexadecimal digits."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()


def issue(store: KeyStore, ledger: Ledger, secret: bytes, project: str, request: KeyRequest) -> NewKey:
    """Issue a key. Only this result contains it. Raises NotFound for an unknown project."""
    key = new_key()
    digest, hint = keyed_hash(secret, key), hint_of(key)
    row = store.add(project, request.name, request.scopes, digest, hint, request.expires_at)
    ledger.set_standing_limits(row.id, _limits(request.budget))
    return NewKey(**shown(row, ledger).model_dump(), key=key)


def set_budget(ledger: Ledger, key_id: str, change: KeyChange) -> None:
    """Change the given limits; the others stay."""
    before = _budget(ledger.standing_limits(key_id)).model_dump()
    after = before | change.budget.model_dump(exclude_unset=True)
    ledger.set_standing_limits(key_id, _limits(KeyBudget.model_validate(after)))


def _limits(budget: KeyBudget) -> Limits:
    return Limits(budget.max_usd, budget.max_tokens, budget.max_calls)


def _budget(limits: Limits) -> KeyBudget:
    return KeyBudget(max_usd=limits.usd, max_tokens=limits.tokens, max_calls=limits.calls)


def shown(row: ApiKeyRecord, ledger: Ledger) -> KeyObject:
    """The API's object of a key, with its budget from the ledger."""
    spent = ledger.spent_by_key(row.id, time.time())
    return KeyObject(
        id=row.id,
        name=row.name,
        project=row.project_id,
        scopes=row.scopes,
        hint=row.hint,
        created_at=int(row.created_at),
        expires_at=_seconds(row.expires_at),
        revoked_at=_seconds(row.revoked_at),
        last_used_at=_seconds(row.last_used_at),
        budget=_budget(ledger.standing_limits(row.id)),
        spent=KeySpent(**spent._asdict()),
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)

"""What an API key is: `mk-` and 256 random bits, of which only a keyed hash is kept.

HMAC-SHA-256 and no slow password hash: there is nothing to guess in 256 random bits, and every request pays for it. The secret
of the hash lies outside the database, so a stolen database can neither be tried against nor be given a key of one's own.
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
LONGEST = 200  # characters; what is longer is no key of ours, and is not hashed
SHOWN = 4  # characters at each end that a hint shows; 200 of the 256 bits stay unknown


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hint_of(key: str) -> str:
    """What people tell keys apart by: `mk-abcd...wxyz`."""
    return f"{key[: len(PREFIX) + SHOWN]}...{key[-SHOWN:]}"


def hash_secret(platform: PlatformSettings) -> bytes:
    """METEOR_API_KEY_SECRET, or a file of the data folder that is made at the first use. Without it no key opens any more."""
    given = platform.api_key_secret.get_secret_value()
    return (given or kept_secret(platform.data / "key-pepper")).encode()


def keyed_hash(secret: bytes, key: str) -> str:
    """64 hexadecimal digits."""
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()


def issue(store: KeyStore, ledger: Ledger, secret: bytes, project: str, request: KeyRequest) -> NewKey:
    """Make a key. The answer is the only place where it stands. Raises NotFound for a project that is not."""
    key = new_key()
    digest, hint = keyed_hash(secret, key), hint_of(key)
    row = store.add(project, request.name, request.scopes, digest, hint, request.expires_at)
    ledger.set_standing_limits(row.id, _limits(request.budget))
    return NewKey(**shown(row, ledger).model_dump(), key=key)


def set_budget(ledger: Ledger, key_id: str, change: KeyChange) -> None:
    """What it leaves out stays as it is."""
    before = _budget(ledger.standing_limits(key_id)).model_dump()
    after = before | change.budget.model_dump(exclude_unset=True)
    ledger.set_standing_limits(key_id, _limits(KeyBudget.model_validate(after)))


def _limits(budget: KeyBudget) -> Limits:
    return Limits(budget.max_usd, budget.max_tokens, budget.max_calls)


def _budget(limits: Limits) -> KeyBudget:
    return KeyBudget(max_usd=limits.usd, max_tokens=limits.tokens, max_calls=limits.calls)


def shown(row: ApiKeyRecord, ledger: Ledger) -> KeyObject:
    """A row of `api_keys` as people see it, with its budget, which the ledger keeps."""
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

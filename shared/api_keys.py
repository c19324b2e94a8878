"""What an API key is: `mk-` and 256 random bits, of which only a keyed hash is kept.

HMAC-SHA-256 and no slow password hash: there is nothing to guess in 256 random bits, and every request pays for it. The secret
of the hash lies outside the database, so a stolen database can neither be tried against nor be given a key of one's own.
"""

import hashlib
import hmac
import secrets

from sqlalchemy import Row

from shared.contracts.keys import KeyObject, KeyRequest, NewKey
from shared.jobs.key_store import KeyStore
from shared.kept_secret import kept_secret
from shared.platform.settings import PlatformSettings

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


def issue(store: KeyStore, secret: bytes, project: str, request: KeyRequest) -> NewKey:
    """Make a key. The answer is the only place where it stands. Raises NotFound for a project that is not."""
    key = new_key()
    digest, hint = keyed_hash(secret, key), hint_of(key)
    row = store.add(project, request.name, request.scopes, digest, hint, request.expires_at)
    return NewKey(**shown(row).model_dump(), key=key)


def shown(row: Row) -> KeyObject:
    """A row of `api_keys` as people see it."""
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
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)

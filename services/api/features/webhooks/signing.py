"""Webhook secrets and signatures (Standard Webhooks, symmetric).

Signing needs the secret itself, so a hash cannot be stored as for API keys. The secret is not stored at all: it is derived each
time from a seed in the database and a key outside of it. Neither is of use without the other.
"""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

from standardwebhooks import Webhook

from shared.jobs.records import ClaimedDelivery, WebhookRecord

PREFIX = "whsec_"
SHOWN = 4  # characters of a secret that its hint shows


def secret_of(key: bytes, seed: str) -> str:
    """`whsec_` and 32 bytes in base64."""
    return PREFIX + base64.b64encode(hmac.new(key, f"webhook:{seed}".encode(), hashlib.sha256).digest()).decode()


def hint_of(secret: str) -> str:
    return f"{PREFIX}...{secret[-SHOWN:]}"


def headers(key: bytes, endpoint: WebhookRecord | ClaimedDelivery, message_id: str, body: str) -> list[tuple[str, str]]:
    """Headers of a signed message. While an old secret is valid there are two signatures."""
    now = time.time()
    seeds = [endpoint.seed]
    if endpoint.old_seed and (endpoint.old_until or 0) > now:
        seeds.append(endpoint.old_seed)
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = [Webhook(secret_of(key, seed)).sign(message_id, at, body) for seed in seeds]
    return [
        ("content-type", "application/json"),
        ("user-agent", "meteor-webhooks"),
        ("webhook-id", message_id),
        ("webhook-timestamp", str(int(now))),
        ("webhook-signature", " ".join(signatures)),
    ]

"""What every function of the API works with, opened once per process."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from services.api.gateway_client import ProviderList
from services.api.keyring import Keyring
from services.api.middleware.request_limits import RequestLimits
from services.api.settings import ApiSettings
from shared.artifacts.bases import Base, Bases
from shared.artifacts.store import Artifacts
from shared.jobs.schema import Stores, open_stores
from shared.ledger.store import Ledger, open_ledger
from shared.platform.settings import PlatformSettings
from shared.security.api_keys import hash_secret
from shared.security.secret_file import kept_secret

LEFT_S = 24 * 3600  # an unfinished upload that nobody has written to for so long


@dataclass(frozen=True)
class ApiContext:
    """Settings and stores."""

    settings: ApiSettings
    platform: PlatformSettings
    stores: Stores
    ledger: Ledger
    artifacts: Artifacts
    providers: ProviderList
    bases: Bases
    keyring: Keyring
    request_limits: RequestLimits
    webhook_key: bytes

    @property
    def swaps(self) -> bool:
        """Whether the engine can be asked for another model than the default student."""
        return bool(self.settings.engine_control_url)

    @property
    def students(self) -> list[Base]:
        """The bases that can be asked and trained, the default first."""
        return self.bases.all() if self.swaps else [self.bases.default]

    @property
    def files(self) -> Path:
        """The folder of uploaded bytes, named by SHA-256."""
        return self.platform.data / "files"


def open_context(settings: ApiSettings, platform: PlatformSettings) -> ApiContext:
    """Create the folders, bring the databases to their newest schema, open them."""
    stores = open_stores(platform.database)
    context = ApiContext(
        settings=settings,
        platform=platform,
        stores=stores,
        ledger=open_ledger(platform.ledger_database),
        artifacts=Artifacts(platform.artifacts, platform.disk_floor),
        providers=ProviderList(settings, platform.internal_token.get_secret_value()),
        bases=Bases(),
        keyring=Keyring(stores.keys, hash_secret(platform)),
        request_limits=RequestLimits(stores.projects, platform.redis_url, platform.key_prefix),
        webhook_key=(settings.webhook_key.get_secret_value() or kept_secret(platform.data / "webhook-key")).encode(),
    )
    context.files.mkdir(parents=True, exist_ok=True)
    for left in context.files.glob(".upload-*"):  # of a process that was killed
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > LEFT_S:
                left.unlink()
    return context

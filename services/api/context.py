"""What the functions of the API work with: settings and stores, opened once per process, and for each request its caller."""

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from services.api.gateway_client import ProviderList
from services.api.keyring import Keyring
from services.api.middleware.request_limits import RequestLimits
from services.api.model_router import ModelRouter
from services.api.settings import ApiSettings
from shared.artifacts.bases import Base, Bases
from shared.artifacts.opening import open_artifacts, open_uploads
from shared.artifacts.store import Artifacts
from shared.artifacts.uploads import Uploads
from shared.contracts.keys import Scope
from shared.datasets.files import JobData
from shared.datasets.rows import Items, JobRows, columns_of
from shared.jobs.records import FileRecord
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import Ledger, open_ledger
from shared.platform.aside import aside
from shared.platform.settings import PlatformSettings
from shared.security.api_keys import hash_secret
from shared.security.secret_file import kept_secret

ABANDONED_S = 24 * 3600  # age at which a partial upload is deleted
SHORT_ROWS = 1 << 20  # bytes of rows that are looked through in this process


@dataclass(frozen=True)
class Caller:
    """name: a key's id; or operator (METEOR_API_KEYS), internal (the token between services), local (no key exists yet).

    operator: works in the default project and may administer all projects.
    """

    project: str
    name: str
    scopes: frozenset[Scope] = frozenset(Scope)
    operator: bool = False


@dataclass(frozen=True)
class ApiContext:
    """Settings and stores. students: the base models that can be served and trained, the default first."""

    settings: ApiSettings
    platform: PlatformSettings
    stores: Stores
    ledger: Ledger
    artifacts: Artifacts
    uploads: Uploads
    providers: ProviderList
    bases: Bases
    students: tuple[Base, ...]
    keyring: Keyring
    request_limits: RequestLimits
    model_router: ModelRouter
    webhook_key: bytes

    @property
    def swaps(self) -> bool:
        """Whether the engine can load another model than the default student."""
        return bool(self.settings.engine_control_url)

    def is_base(self, name: str) -> bool:
        return any(name == base.name for base in self.students)

    @property
    def files(self) -> Path:
        """The folder that uploads arrive in."""
        return self.uploads.folder

    def of(self, caller: Caller, openai_names: bool = False) -> "ProjectContext":
        return ProjectContext(**vars(self), caller=caller, openai_names=openai_names)

    def of_project(self, project: str = DEFAULT_PROJECT) -> "ProjectContext":
        """For code inside this process, which works without a key."""
        return self.of(Caller(project, "local", operator=True))


@dataclass(frozen=True)
class ProjectContext(ApiContext):
    """The context of one request: all it reads and writes belongs to the caller's project. openai_names: it came by a route that
    OpenAI has, too."""

    caller: Caller
    openai_names: bool = False
    _rows: dict[tuple[str | None, ...], JobRows] = field(default_factory=dict)

    @property
    def project(self) -> str:
        return self.caller.project

    @property
    def view(self) -> str | None:
        """The project whose keys, limits and audit log the caller sees; None: all projects."""
        return None if self.caller.operator else self.caller.project

    @property
    def key_id(self) -> str | None:
        """The caller's key in the database; None for the operator."""
        return None if self.caller.operator else self.caller.name

    def file(self, file_id: str) -> FileRecord:
        """Raises NotFound."""
        return self.stores.catalog.file(self.project, file_id)

    def job_rows(self, data: JobData, items: Items = Items.KEPT) -> JobRows:
        """The rows of a job with their splits, on the disk. Raises ArtifactMissing."""
        key = (*(file.rows_ref if file else None for file in data), items.value)
        if key not in self._rows:
            self._rows[key] = data.rows(self.artifacts, self.stores.catalog, _columns_of, items)
        return self._rows[key]


def _columns_of(artifacts: Artifacts, rows_ref: str) -> str:
    """Of rows from before there were columns: aside where they are many."""
    long = artifacts.file(rows_ref).stat().st_size > SHORT_ROWS
    return aside(columns_of, artifacts, rows_ref) if long else columns_of(artifacts, rows_ref)


def open_context(settings: ApiSettings, platform: PlatformSettings) -> ApiContext:
    """Create the folders, migrate the databases to the newest schema, open them."""
    stores = open_stores(platform.database)
    bases = Bases()
    students = tuple(bases.all()) if settings.engine_control_url else (bases.default,)
    context = ApiContext(
        settings=settings,
        platform=platform,
        stores=stores,
        ledger=open_ledger(platform.ledger_database),
        artifacts=open_artifacts(platform),
        uploads=open_uploads(platform),
        providers=ProviderList(settings, platform.internal_token.get_secret_value()),
        bases=bases,
        students=students,
        keyring=Keyring(stores.keys, hash_secret(platform)),
        request_limits=RequestLimits(stores.projects, platform.redis_url, platform.key_prefix),
        model_router=ModelRouter(stores, [base.name for base in students]),
        webhook_key=(settings.webhook_key.get_secret_value() or kept_secret(platform.data / "webhook-key")).encode(),
    )
    context.files.mkdir(parents=True, exist_ok=True)
    for upload in context.files.glob(".upload-*"):  # left by a process that was killed
        with contextlib.suppress(FileNotFoundError):
            if time.time() - upload.stat().st_mtime > ABANDONED_S:
                upload.unlink()
    return context

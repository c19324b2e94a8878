"""What the hosts share: PostgreSQL, Valkey, an S3 server and the teacher. They are struck by no one here; `make chaos` does that."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.artifacts.opening import open_artifacts
from shared.artifacts.store import Artifacts
from shared.db.engine import engine_for
from shared.jobs.schema import Stores, stores_on
from shared.ledger.store import Ledger
from shared.platform.settings import PlatformSettings
from tests.fakes.postgres import running_postgres
from tests.fakes.seaweed import running_s3
from tests.fakes.start import FakeServer, start_teacher
from tests.fakes.valkey import running_valkey
from tests.hosts.network import SERVICES

URL = "s3://meteor-hosts/jobs"


@dataclass(frozen=True)
class SharedServices:
    """environment: how each host finds them."""

    environment: dict[str, str]
    teacher: FakeServer

    @property
    def stores(self) -> Stores:
        return stores_on(self.environment["DATABASE_URL"])

    @property
    def ledger(self) -> Ledger:
        return Ledger(engine_for(self.environment["DATABASE_URL"]))

    def artifacts(self, settings: PlatformSettings) -> Artifacts:
        """As one more host would open them. The credentials have to be in this process's environment."""
        return open_artifacts(settings)


@contextmanager
def shared_services(teacher_s: float, concurrency: int) -> Generator[SharedServices]:
    """teacher_s: seconds per request, concurrency: how many at once."""
    pace = ["--latency", str(teacher_s), "--concurrency", str(concurrency)]
    with (
        running_postgres(SERVICES) as database,
        running_valkey(address=SERVICES) as broker,
        running_s3(SERVICES) as s3,
        start_teacher(*pace, address=SERVICES) as teacher,
    ):
        environment = {
            **s3.environment(),
            "METEOR_ARTIFACTS_URL": URL,
            "DATABASE_URL": database,
            "REDIS_URL": broker,
            "METEOR_TEACHER_BASE_URL": teacher.base_url,
            "METEOR_TEACHER_MODEL": "fake",
        }
        yield SharedServices(environment, teacher)

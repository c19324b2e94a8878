"""Opening the job database: newest schema, default project, stores."""

from pathlib import Path
from typing import NamedTuple, get_type_hints

from shared.db.engine import engine_for, upgrade
from shared.jobs.answer_store import AnswerStore
from shared.jobs.audit_store import AuditStore
from shared.jobs.canary_store import CanaryStore
from shared.jobs.capture_store import CaptureStore
from shared.jobs.catalog import Catalog
from shared.jobs.chat_store import ChatStore
from shared.jobs.eval_store import EvalStore
from shared.jobs.event_store import EventStore
from shared.jobs.feedback_store import FeedbackStore
from shared.jobs.integration_store import IntegrationStore
from shared.jobs.job_store import JobStore
from shared.jobs.key_store import KeyStore
from shared.jobs.label_store import LabelStore
from shared.jobs.notices import NoticeStore
from shared.jobs.operations import Operations
from shared.jobs.overview import Overview
from shared.jobs.project_store import ProjectStore
from shared.jobs.recipe_store import RecipeStore
from shared.jobs.retention_store import RetentionStore
from shared.jobs.step_store import StepStore
from shared.jobs.tallies import TallyStore
from shared.jobs.webhook_store import WebhookStore

MIGRATIONS = Path(__file__).parent / "migrations"


class Stores(NamedTuple):
    jobs: JobStore
    events: EventStore
    webhooks: WebhookStore
    steps: StepStore
    catalog: Catalog
    labels: LabelStore
    overview: Overview
    retention: RetentionStore
    keys: KeyStore
    projects: ProjectStore
    audit: AuditStore
    canaries: CanaryStore
    answers: AnswerStore
    evals: EvalStore
    chats: ChatStore
    feedback: FeedbackStore
    captures: CaptureStore
    notices: NoticeStore
    recipes: RecipeStore
    tallies: TallyStore
    operations: Operations
    integrations: IntegrationStore


def open_stores(url: str) -> Stores:
    """Migrate if needed and open. Every process calls it at its start."""
    upgrade(url, MIGRATIONS, "alembic_version")
    stores = stores_on(url)
    stores.catalog.ensure_default_project()
    return stores


def stores_on(url: str) -> Stores:
    """The stores of a database that this process, or its parent before the fork, has opened."""
    engine = engine_for(url)
    return Stores(*(store(engine) for store in get_type_hints(Stores).values()))

"""`python -m services.orchestrator.migrate`: the newest schema of both databases, for deployments that migrate before their
processes start. Processes that find an older schema migrate it themselves, under the same lock."""

from shared.jobs.schema import open_stores
from shared.ledger.store import open_ledger
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import platform_settings


def main() -> None:
    set_up_logging("migrations")
    platform = platform_settings()
    open_stores(platform.database)
    open_ledger(platform.ledger_database)
    get_logger(__name__).info("the schema is the newest")


if __name__ == "__main__":
    main()

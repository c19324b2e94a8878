"""`python -m services.orchestrator`"""

from shared.platform.loading import loading_a_service

with loading_a_service():
    from services.orchestrator.main import main

main()

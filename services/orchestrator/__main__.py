"""`python -m services.orchestrator`"""

from shared.platform.loading import loading

with loading():
    from services.orchestrator.main import main

main()

"""`python -m services.strong_model gateway|worker`"""

from shared.platform.loading import loading_a_service

with loading_a_service():
    from services.strong_model.main import main

main()

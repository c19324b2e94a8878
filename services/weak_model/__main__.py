"""`python -m services.weak_model engine|worker`"""

from shared.platform.loading import loading_a_service

with loading_a_service():
    from services.weak_model.main import main

main()

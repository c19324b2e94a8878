"""`python -m services.trainer`"""

from shared.platform.loading import loading_a_service

with loading_a_service():
    from services.trainer.main import main

main()

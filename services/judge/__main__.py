"""`python -m services.judge`"""

from shared.platform.loading import loading_a_service

with loading_a_service():
    from services.judge.main import main

main()

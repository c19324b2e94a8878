"""`python -m services.strong_model gateway|worker`"""

from shared.platform.loading import loading

with loading():
    from services.strong_model.main import main

main()

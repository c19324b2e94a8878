"""`python -m services.weak_model engine|worker`"""

from shared.platform.loading import loading

with loading():
    from services.weak_model.main import main

main()

"""`python -m services.weak_model engine|worker`"""

from services.weak_model.main import main

main()

"""`python -m services.strong_model gateway|worker`"""

from services.strong_model.main import main

main()

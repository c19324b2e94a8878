"""`python -m services.trainer`"""

from shared.platform.loading import loading

with loading():
    from services.trainer.main import main

main()

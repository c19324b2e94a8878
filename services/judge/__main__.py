"""`python -m services.judge`"""

from shared.platform.loading import loading

with loading():
    from services.judge.main import main

main()

"""`python -m services.api`"""

import sys

from shared.platform.loading import loading_a_service

with loading_a_service():
    from services.api.app import main

sys.exit(main())

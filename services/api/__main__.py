"""`python -m services.api`"""

import sys

from shared.platform.loading import loading

with loading():
    from services.api.app import main

sys.exit(main())

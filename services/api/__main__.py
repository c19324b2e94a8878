"""`python -m services.api`"""

import sys

from services.api.main import main

sys.exit(main())

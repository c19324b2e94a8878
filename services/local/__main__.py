"""`python -m services.local` is the `meteor` command, or this service's part of it where no other one is installed."""

from importlib import import_module
from importlib.util import find_spec

import_module("services.meteor.main" if find_spec("services.meteor") else "services.local.main").app()

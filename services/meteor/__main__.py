"""`python -m services.meteor` is the `meteor` command."""

from services.meteor.main import app

app()

"""`python -m services.local` is the `meteor` command."""

from services.local.main import app

app(prog_name="meteor")

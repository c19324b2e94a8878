"""Simulated providers: small HTTP servers that refuse and answer as the real ones do, one row of table.py each."""

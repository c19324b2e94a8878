"""One HTTP client for all requests of the tests to servers on this machine: a new client for each costs 25 ms of certificates."""

import httpx

LOOPBACK = httpx.Client(
    verify=False,  # no server of the tests speaks TLS here
    trust_env=False,
    limits=httpx.Limits(max_keepalive_connections=0),  # servers come and go at the same port
)

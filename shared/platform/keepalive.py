"""When a silent TCP connection counts as dead: a host that is cut off or loses power closes nothing.

Without it a read waits for ever, and a write for the kernel's 15 minutes.
"""

import socket

IDLE_S, INTERVAL_S, PROBES = 10, 5, 3
DEAD_AFTER_S = IDLE_S + PROBES * INTERVAL_S

# Of redis-py, for connections that wait for messages. What asks and waits for an answer has a socket_timeout instead.
REDIS = {
    "socket_keepalive": True,
    "socket_keepalive_options": {
        socket.TCP_KEEPIDLE: IDLE_S,
        socket.TCP_KEEPINTVL: INTERVAL_S,
        socket.TCP_KEEPCNT: PROBES,
    },
}

# Of libpq. tcp_user_timeout: milliseconds until what was sent has to be acknowledged.
POSTGRES = {
    "keepalives_idle": IDLE_S,
    "keepalives_interval": INTERVAL_S,
    "keepalives_count": PROBES,
    "tcp_user_timeout": 1000 * DEAD_AFTER_S,
}

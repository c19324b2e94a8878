"""A small ASGI application served over real HTTP, on a thread of the test."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from tests.fakes.ports import free_port


@contextmanager
def on_a_thread(app: Any, certificate: Path | None = None) -> Generator[str]:
    """Its URL. certificate: with its key in one file; then it is https."""
    port = free_port()
    options: dict[str, Any] = {"log_level": "critical", "timeout_graceful_shutdown": 1, "lifespan": "off"}
    if certificate is not None:
        options |= {"ssl_certfile": str(certificate), "ssl_keyfile": str(certificate)}
    server = uvicorn.Server(uvicorn.Config(app, port=port, **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()

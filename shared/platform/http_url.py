"""The URL of an HTTP service, as a setting: it names a place and holds no credentials."""

from urllib.parse import urlsplit


def checked_http_url(url: str, form: str, secret: str) -> str:
    """Without its last slash. form: what to write instead of another kind of URL. secret: the setting that holds the credentials.

    Raises ValueError, whose message does not repeat the URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(form)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"it must hold no credentials and no query; {secret}")
    return url.rstrip("/")

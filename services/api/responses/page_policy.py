"""Content security policy of the API's own pages: only styles and scripts that are named by their hashes."""

import base64
import hashlib


def hashed(text: str) -> str:
    """A source for a policy: an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page_headers(*directives: str) -> dict[str, str]:
    """directives: what the page may do beyond showing text, as `style-src ...`."""
    closed = ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
    return {
        "content-security-policy": "; ".join(("default-src 'none'", *directives, *closed)),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

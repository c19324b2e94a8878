"""Writes openapi.json and docs/reference/api.md: `python -m services.api.openapi [FOLDER]`. Both are committed; a test compares them."""

import json
import sys
from pathlib import Path

from services.api.app import create_app
from services.api.features.docs.reference import markdown
from services.api.settings import ApiSettings
from shared.contracts.json_types import Json
from shared.platform.settings import PlatformSettings


def generated(made: Json) -> dict[str, str]:
    """Path below the repository's root -> the text that belongs there, out of the document."""
    return {
        "openapi.json": json.dumps(made, indent=1, ensure_ascii=False) + "\n",
        "docs/reference/api.md": markdown(made),
    }


def main(root: Path) -> None:
    for name, text in generated(create_app(ApiSettings(), PlatformSettings()).openapi()).items():
        (root / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))

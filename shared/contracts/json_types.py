"""JSON whose shape is not ours to say: requests and responses of model providers."""

from typing import Any

Json = dict[str, Any]  # a JSON object

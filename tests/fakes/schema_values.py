"""A value that fits a JSON schema, drawn from a number: what a model answers under structured output."""

import random
from typing import Any

PASSED = 0.6  # share of booleans that come out true


def value_for(schema: dict[str, Any], seed: int) -> Any:
    """Same schema and seed, same value. Knows what pydantic and OpenAI's structured outputs use of JSON schema."""
    return _value(schema, schema, random.Random(seed))


def _pointed_at(root: dict[str, Any], reference: str) -> dict[str, Any]:
    here: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        here = here[part] if part else here
    return here


def _value(schema: dict[str, Any], root: dict[str, Any], dice: random.Random) -> Any:
    if "$ref" in schema:
        return _value(_pointed_at(root, schema["$ref"]), root, dice)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return dice.choice(schema["enum"])
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return _value(schema[union][0], root, dice)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _value(part, root, dice) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_value(schema["items"], root, dice) for _ in range(max(1, schema.get("minItems", 1)))]
    if kind == "boolean":
        return dice.random() < PASSED
    if kind == "integer":
        return dice.randint(int(schema.get("minimum", 0)), int(schema.get("maximum", 10)))
    if kind == "number":
        return round(dice.uniform(schema.get("minimum", 0), schema.get("maximum", 1)), 3)
    if kind == "string":
        text = f"hint {dice.randrange(10**6)}: name the part that does the work, then check its options"
        return text[: schema.get("maxLength", len(text))]
    return None

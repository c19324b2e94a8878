"""Texts that try to be more than text. `owned` is what a page under test offers their scripts: each call is a fault."""

MARKUP = "<img src=x onerror=\"owned('img')\"><script>owned('script')</script>"
LINK = "[a link](javascript:owned('link')) javascript:owned('address')"
# Without an end: whatever follows in the same paragraph would be turned around.
BACKWARDS = "\u202ebackwards"
UNSEEN = "z\u200be\u200dr\ufeffo"
LONG_WORD = "w" * 240
HOSTILE = f"{MARKUP} {LINK} {UNSEEN} {LONG_WORD} {BACKWARDS}"
FILE_NAME = "<img src=x onerror=owned('name')>.jsonl"

"""What stands in the log: secrets never, and every text on the line that it belongs to."""

import json
import subprocess
import sys

WRITES = """
import json, sys
from shared.platform.log import get_logger, set_up_logging
set_up_logging("test")
for text in json.loads(sys.argv[1]):
    get_logger("test").warning("told", error=text, api_key=text)
    get_logger("test").warning(text)
"""
EVIL = [
    "x\n2026-01-01T00:00:00Z [info     ] forged   service=api",  # a line of its own
    "x\r\u2028\u0085forged",
    "\x1b[2J\x1b]0;title\x07\x9b1m",  # a terminal's orders
    "\u202egpj.exe",  # backwards
    "a\0b",
    "\ud800",
]


def test_no_text_leaves_its_line_and_no_secret_stands_there():
    done = subprocess.run([sys.executable, "-c", WRITES, json.dumps(EVIL)], capture_output=True, check=True)
    lines = done.stderr.decode().splitlines(keepends=True)
    assert len(lines) == 2 * len(EVIL), lines
    for line in lines:
        assert line.endswith("\n"), line
        assert line[:-1].isprintable(), line
    assert all("api_key=***" in line for line in lines[::2])


FULL = """
import logging
from shared.platform.log import get_logger, set_up_logging
set_up_logging("test")
for number in range(2000):
    get_logger("ours").warning("a line that has no room", number=number)
    logging.getLogger("theirs").warning("another")
print("went on")
"""


def test_a_log_on_a_full_disk_stops_nobody():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", FULL], stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.stdout == "went on\n"

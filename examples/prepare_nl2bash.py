"""Make a METEOR dataset out of NL2Bash (English task -> bash command), balanced over utilities.

python examples/prepare_nl2bash.py --data nl2bash.jsonl --rows 1000 > rows.jsonl

--data: one JSON object a line with `description`, `command` and `utility` (the command's first word). 60 % of the original
are `find`; here each utility gives at most so many tasks that --rows are reached, and utilities with fewer than --least
tasks give none. The choice hangs on the texts alone. A command is the row's `group`: it never stands on both sides of a
split, however many descriptions it has.
"""

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--rows", type=int, default=1000)
parser.add_argument("--least", type=int, default=8)
options = parser.parse_args()

tasks = [json.loads(line) for line in options.data.read_text().splitlines()]
tasks.sort(key=lambda task: hashlib.sha256(f"{task['description']}\n{task['command']}".encode()).digest())
by_utility: dict[str, list[dict[str, str]]] = defaultdict(list)
for task in tasks:
    by_utility[task["utility"]].append(task)
usable = [alike for alike in by_utility.values() if len(alike) >= options.least]
cap = next((n for n in range(1, len(tasks)) if sum(min(n, len(alike)) for alike in usable) >= options.rows), len(tasks))
chosen = [task for alike in usable for task in alike[:cap]]

seen: Counter[str] = Counter()
for task in chosen:
    question = " ".join(task["description"].split())
    seen[question.casefold()] += 1
    if seen[question.casefold()] > 1:
        continue  # two commands for one task: the first is the reference
    command = task["command"].strip()
    group = hashlib.sha256(" ".join(command.split()).encode()).hexdigest()[:16]
    row = {"question": question, "reference": command, "category": task["utility"], "group": group}
    print(json.dumps(row, ensure_ascii=False))

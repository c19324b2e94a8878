"""Make a METEOR dataset out of NL-RX-Turk (English description -> regular expression in spaced tokens).

python examples/prepare_nl_rx.py --data nl_rx_turk.jsonl > rows.jsonl

--data: one JSON object a line with `id`, `question`, `reference` and `split` (train or dev). The published dev split becomes the test
split. --train rows with a reference, --dev rows, and --questions train rows without one are drawn at random from the published train split.
"""

import argparse
import json
import random
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--train", type=int, default=1000)
parser.add_argument("--dev", type=int, default=400)
parser.add_argument("--questions", type=int, default=1500)
parser.add_argument("--seed", type=int, default=11)
options = parser.parse_args()

records = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()]
test = [record for record in records if record["split"] == "dev"]
held_out = {record["question"] for record in test}
drawn = [record for record in records if record["split"] == "train" and record["question"] not in held_out]
drawn = list({record["question"]: record for record in drawn}.values())
random.Random(options.seed).shuffle(drawn)  # noqa: S311
splits = {"train": drawn[: options.train], "dev": drawn[options.train :][: options.dev], "test": test}
bare = drawn[options.train + options.dev :][: options.questions]
for split, rows in splits.items():
    for record in rows:
        row = {name: record[name] for name in ("id", "question", "reference")}
        print(json.dumps(row | {"split": split}, ensure_ascii=False))
for record in bare:
    print(json.dumps({"id": record["id"], "question": record["question"], "split": "train"}, ensure_ascii=False))

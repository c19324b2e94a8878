"""Make a METEOR dataset out of GeoQuery (English question on US geography -> SQL), without references in train or with a few.

python examples/prepare_geoquery.py --data geoquery.jsonl > rows.jsonl

--data: one JSON object a line with `id`, `question` and `reference`. Questions are split at random, as in the published question split:
--test and --dev questions keep their reference, the others are asked of the teacher. --references: so many questions of train keep
theirs too. --exchange: train and test change places.
"""

import argparse
import json
import random
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--dev", type=int, default=60)
parser.add_argument("--test", type=int, default=250)
parser.add_argument("--seed", type=int, default=11)
parser.add_argument("--references", type=int, default=0)
parser.add_argument("--exchange", action="store_true")
options = parser.parse_args()

records = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()]
distinct = list({record["question"].strip(): record for record in records}.values())
random.Random(options.seed).shuffle(distinct)  # noqa: S311
held_out = options.test + options.dev
splits = {"train": distinct[held_out:], "dev": distinct[options.test : held_out], "test": distinct[: options.test]}
if options.exchange:
    splits["train"], splits["test"] = splits["test"], splits["train"]
    random.Random(options.seed + 2).shuffle(splits["train"])  # noqa: S311
for split, rows in splits.items():
    for number, record in enumerate(rows):
        row = {"id": record["id"], "question": record["question"].strip(), "split": split}
        if split != "train" or number < options.references:
            row["reference"] = record["reference"]
        print(json.dumps(row, ensure_ascii=False))

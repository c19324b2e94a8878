"""Make a METEOR dataset out of ASDiv (word problems of grades 1 to 6 -> a number).

python examples/prepare_asdiv.py --data ASDiv.xml > rows.jsonl

The reference is the number alone: neither the formula nor the unit of the published answer is used. Problems whose published formula is
no arithmetic on numbers (a set, a ratio, two unknowns) are left out, as are answers that are no single number. Splits are drawn at random.
"""

import argparse
import json
import random
import re
from pathlib import Path
from xml.etree import ElementTree  # the file is the user's own

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--dev", type=int, default=135)
parser.add_argument("--test", type=int, default=500)
parser.add_argument("--seed", type=int, default=11)
options = parser.parse_args()

NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?=$|\s|\()")
ARITHMETIC = re.compile(r"[0-9+\-*/=(). ]+")


def text(problem: ElementTree.Element, name: str) -> str:
    return (problem.findtext(name) or "").strip()


rows = {}
for problem in ElementTree.parse(options.data).iter("Problem"):  # noqa: S314
    answer = NUMBER.match(text(problem, "Answer"))
    if answer and ARITHMETIC.fullmatch(text(problem, "Formula")):
        question = f"{text(problem, 'Body')} {text(problem, 'Question')}"
        rows[question] = {"id": problem.attrib["ID"], "question": question, "reference": answer[1]}
drawn = list(rows.values())
random.Random(options.seed).shuffle(drawn)  # noqa: S311
held_out = options.test + options.dev
for number, row in enumerate(drawn):
    split = "test" if number < options.test else "dev" if number < held_out else "train"
    print(json.dumps(row | {"split": split}, ensure_ascii=False))

"""The same generation by distilabel; run by the python of its own environment, which has none of our packages.

    python generation_distilabel.py BASE_URL QUESTIONS CACHE OUTPUT

Begun again with the same CACHE it goes on by distilabel's own cache. Writes OUTPUT, lines of {question, answer}, and prints the seconds
of processor time that it and its processes took.
"""

import json
import resource
import sys
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    base_url, count, cache, output = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    with Pipeline(name="bench", cache_dir=cache) as pipeline:
        questions = LoadDataFromDicts(data=[{"instruction": f"question {n} of bench"} for n in range(count)])
        llm = OpenAILLM(model="fake-large", base_url=base_url, api_key="none", generation_kwargs={"max_new_tokens": 64})
        questions.connect(TextGeneration(llm=llm))
    rows = pipeline.run(use_cache=True)["default"]["train"]
    lines = [json.dumps({"question": row["instruction"], "answer": row["generation"]}) for row in rows]
    output.write_text("".join(f"{line}\n" for line in lines))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    sys.stdout.write(f"{sum(one.ru_utime + one.ru_stime for one in used)}\n")


if __name__ == "__main__":
    main()

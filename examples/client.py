"""Drive a running METEOR with the stock `openai` package: upload, post a job, wait, chat.

python examples/client.py examples/shell.jsonl my-shell "the Linux command line"
"""

import os
import sys
import time

from openai import OpenAI

path, alias, domain = sys.argv[1:4]
client = OpenAI(
    base_url=os.environ.get("METEOR_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("METEOR_API_KEY", "none"),
)

with open(path, "rb") as rows:
    file = client.files.create(file=rows, purpose="fine-tune")
base = next(model.id for model in client.models.list() if not getattr(model, "parent", None))
job = client.post(
    "/distillation/jobs",
    cast_to=object,
    body={
        "model": base,
        "training_file": file.id,
        "suffix": alias,
        "distillation": {"domain": domain, "primary_metric": "chrf", "answer_tokens": 64},
    },
)
job_id = job["id"]
print(f"{job_id} on {base}")

seen: set[str] = set()
while True:
    for event in reversed(list(client.fine_tuning.jobs.list_events(job_id, limit=100))):
        if event.id not in seen:
            seen.add(event.id)
            print(" ", event.message)
    state = client.fine_tuning.jobs.retrieve(job_id)
    if state.status in ("succeeded", "failed", "cancelled"):
        break
    time.sleep(5)

if state.status != "succeeded" or state.fine_tuned_model is None:
    sys.exit(f"job {state.status}: {state.error or 'no model came out of it'}")
stream = client.chat.completions.create(
    model=state.fine_tuned_model,
    messages=[{"role": "user", "content": "Count the lines of notes.txt."}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
print()

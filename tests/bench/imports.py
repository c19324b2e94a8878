"""Seconds until a service is imported, and whether a model library came along: `python -m tests.bench.imports`.

Each module in a fresh interpreter, the best of three (the first one may compile). Prints one JSON object.
"""

import json
import subprocess
import sys

MODULES = ("services.api.app", "services.orchestrator.main", "services.strong_model.main", "services.weak_model.main")
HEAVY = ("torch", "transformers", "vllm", "trl")
CODE = """
import json, sys, time
began = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - began
print(json.dumps([seconds, [name for name in sys.argv[2:] if name in sys.modules]]))
"""


def measure(module: str) -> dict[str, object]:
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", CODE, module, *HEAVY], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    return {"seconds": round(min(seconds for seconds, _ in runs), 2), "heavy": runs[0][1]}


if __name__ == "__main__":
    print(json.dumps({module: measure(module) for module in MODULES}))

"""Stands where vLLM would be imported from: the engine's keeper, its guard and its port are real, the model is the fake engine.

A real vLLM needs 45-130 s of two free cores to start, too long for one that is killed every two minutes.
DRILL_ENGINE_LATENCY: seconds per request, DRILL_ENGINE_CONCURRENCY: how many at once. vLLM's other options are ignored.
"""

import argparse
import asyncio
import os

from tests.fakes.engine import answer
from tests.fakes.openai_server import FakeOpenAI, Listener


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    given, _ = parser.parse_known_args()
    fake = FakeOpenAI(
        answer,
        [given.served_model_name],
        api_key=os.environ.get("VLLM_API_KEY", ""),
        log=None,
        latency_s=float(os.environ["DRILL_ENGINE_LATENCY"]),
        concurrency=int(os.environ["DRILL_ENGINE_CONCURRENCY"]),
    )
    asyncio.run(Listener(fake.app(), given.port).serve())


if __name__ == "__main__":
    main()

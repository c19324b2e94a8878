"""vLLM's HTTP side with the real sleep guard, and an engine behind it that sleeps, wakes and may compute something else afterwards, for tests of the
engine process: `python -m tests.fakes.sleeping_engine FOLDER PORT MODEL`.

Files of the folder steer it: `mute` answers no health check, `busy` reports a request, `adapters` names those that are loaded, one a line,
`spoiled` changes its answers while it is there, `spoils` does so from waking on, `stuck` does not wake, `infinite` computes no numbers.
"""

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.weak_model.sleep_guard import SleepGuard


class Sleeper:
    """vLLM's EngineClient, as far as the guard uses it."""

    def __init__(self, folder: Path, can_sleep: bool = True):
        self.folder = folder
        self.spoiled = False
        self.vllm_config = SimpleNamespace(model_config=SimpleNamespace(enable_sleep_mode=can_sleep))

    async def sleep(self, level: int) -> None:
        (self.folder / "asleep").write_text(str(level))

    async def wake_up(self) -> bool:
        if (self.folder / "stuck").exists():
            raise RuntimeError("CUDA out of memory")
        (self.folder / "asleep").unlink()
        self.spoiled |= (self.folder / "spoils").exists()
        return True


class Routes:
    def __init__(self, folder: Path, model: str, engine: Sleeper):
        self.folder, self.model, self.engine = folder, model, engine

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    async def health(self, request: Request) -> Response:
        return Response(status_code=503 if self.has("mute") else 200)

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(f'vllm:num_requests_running{{engine="0"}} {float(self.has("busy"))}\n')

    async def models(self, request: Request) -> Response:
        names = (self.folder / "adapters").read_text().split() if self.has("adapters") else []
        loaded = [{"id": name, "parent": self.model} for name in names]
        return JSONResponse({"data": [{"id": self.model, "parent": None}, *loaded]})

    async def completions(self, request: Request) -> Response:
        """Every token is the only likely one."""
        body = await request.json()
        with (self.folder / "asked").open("a") as log:
            log.write(f"{body['model']}\n")
        if self.has("infinite"):
            message = "Out of range float values are not JSON compliant: nan"
            return JSONResponse({"error": {"message": message, "type": "BadRequestError"}}, status_code=400)
        spoiled = self.engine.spoiled or self.has("spoiled")
        seed = hashlib.sha256(f"{body['model']} {spoiled}".encode()).hexdigest()[:8]
        tokens = [f"token_id:{seed}{place}" for place in range(body["max_tokens"])]
        values = [-0.5] * len(tokens)
        likely = [{token: value} for token, value in zip(tokens, values, strict=True)]
        logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": likely}
        return JSONResponse({"choices": [{"text": "", "logprobs": logprobs}]})


def make_app(folder: Path, model: str, can_sleep: bool = True) -> Starlette:
    engine = Sleeper(folder, can_sleep)
    routes = Routes(folder, model, engine)
    app = Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/v1/models", routes.models),
            Route("/v1/completions", routes.completions, methods=["POST"]),
        ]
    )
    app.state.engine_client = engine
    app.add_middleware(SleepGuard)
    return app


if __name__ == "__main__":
    app = make_app(Path(sys.argv[1]), sys.argv[3])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

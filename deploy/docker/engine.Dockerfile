# vLLM under the guard. Two targets, `cpu` (default) and `gpu`; the engine's environment is apart from the trainer's.
#   docker build -f deploy/docker/engine.Dockerfile --target gpu .
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS base

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin meteor \
    && install -d -o meteor -g meteor /data /data/serving /models
COPY requirements/services.lock requirements/s3.lock requirements/torch.lock requirements/

# No usage reports, no hub: the models are a folder. Caches go to /tmp, the one place that can be written.
ENV METEOR_DATA=/data HOME=/tmp USER=meteor PYTHONPATH=/app XDG_CACHE_HOME=/tmp/cache VLLM_CACHE_ROOT=/tmp/cache/vllm \
    HF_HOME=/tmp/cache/hf HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1


FROM base AS gpu
# vLLM compiles kernels while it starts; that needs a C compiler.
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/*
COPY requirements/engine-gpu.lock requirements/engine-gpu.lock
RUN pip install --no-deps -r requirements/services.lock -r requirements/s3.lock -r requirements/torch.lock -r requirements/engine-gpu.lock
COPY deploy/healthcheck.py deploy/healthcheck.py
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/weak_model services/weak_model
USER 10001:10001
CMD ["python", "-m", "services.weak_model", "engine"]


FROM base AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
COPY requirements/engine-cpu.lock requirements/engine-cpu.lock
# The same version number names the CPU build there and the CUDA build on PyPI; the local version (+cpu) wins.
RUN pip install --no-deps --extra-index-url "$TORCH_INDEX" \
    -r requirements/services.lock -r requirements/s3.lock -r requirements/torch.lock -r requirements/engine-cpu.lock
COPY deploy/healthcheck.py deploy/healthcheck.py
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/weak_model services/weak_model
USER 10001:10001
CMD ["python", "-m", "services.weak_model", "engine"]

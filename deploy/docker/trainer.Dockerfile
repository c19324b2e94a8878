# The training worker with the training process it supervises (targets `cpu`, the default, and `gpu`), and, on the same
# libraries, the one-shot that prepares model folders (target `models`).
#   docker build -f deploy/docker/trainer.Dockerfile --target gpu .
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS base

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin meteor \
    && install -d -o meteor -g meteor /data /data/serving /models
COPY requirements/services.lock requirements/torch.lock requirements/trainer.lock requirements/quantized.lock requirements/
ENV METEOR_DATA=/data METEOR_MODELS=/models HOME=/tmp USER=meteor PYTHONPATH=/app XDG_CACHE_HOME=/tmp/cache HF_HOME=/tmp/cache/hf \
    DO_NOT_TRACK=1


FROM base AS gpu
# The one place where pip resolves: PyPI's torch brings NVIDIA's libraries in the versions it was built for. The locks,
# installed after it, set everything else.
RUN pip install -r requirements/torch.lock
# hadolint ignore=DL3059
RUN pip install --no-deps -r requirements/services.lock -r requirements/trainer.lock -r requirements/quantized.lock
# Optional libraries: --build-arg EXTRAS="otel s3"; with ray the image is a machine of a Ray cluster
ARG EXTRAS=""
COPY requirements/otel.lock requirements/s3.lock requirements/ray.lock requirements/
RUN for extra in $EXTRAS; do pip install --no-deps -r "requirements/$extra.lock" ; done
COPY deploy/healthcheck.py deploy/healthcheck.py
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/trainer services/trainer
ENV HF_HUB_OFFLINE=1
USER 10001:10001
CMD ["python", "-m", "services.trainer"]


FROM base AS cpu-base
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The same version number names the CPU build there and the CUDA build on PyPI; the local version (+cpu) wins.
RUN pip install --no-deps --extra-index-url "$TORCH_INDEX" \
    -r requirements/services.lock -r requirements/torch.lock -r requirements/trainer.lock
# Optional libraries: --build-arg EXTRAS="otel s3 ray quantized"
ARG EXTRAS=""
COPY requirements/otel.lock requirements/s3.lock requirements/ray.lock requirements/
RUN for extra in $EXTRAS; do pip install --no-deps -r "requirements/$extra.lock" ; done
COPY shared shared
COPY services/__init__.py services/__init__.py


FROM cpu-base AS models
COPY services/local services/local
USER 10001:10001
CMD ["python", "-m", "services.local", "models", "pull"]


FROM cpu-base AS cpu
COPY deploy/healthcheck.py deploy/healthcheck.py
COPY services/trainer services/trainer
ENV HF_HUB_OFFLINE=1
USER 10001:10001
CMD ["python", "-m", "services.trainer"]

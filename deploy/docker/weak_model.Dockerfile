# The worker that asks the student through the engine's URL, and the router before several engines. The engine itself is engine.Dockerfile.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin meteor \
    && install -d -o meteor -g meteor /data /data/serving /models

# The lock is complete, so pip resolves nothing. This layer changes only when the lock does.
COPY requirements/services.lock requirements/services.lock
RUN pip install --no-deps -r requirements/services.lock
COPY requirements/router.lock requirements/router.lock
RUN pip install --no-deps -r requirements/router.lock
# Optional libraries: --build-arg EXTRAS="otel s3"
ARG EXTRAS=""
COPY requirements/otel.lock requirements/s3.lock requirements/
RUN for extra in $EXTRAS; do pip install --no-deps -r "requirements/$extra.lock" ; done

COPY deploy/healthcheck.py deploy/healthcheck.py
COPY shared shared
COPY services/__init__.py services/__init__.py
COPY services/weak_model services/weak_model

ENV METEOR_DATA=/data HOME=/tmp USER=meteor PYTHONPATH=/app MALLOC_ARENA_MAX=2
USER 10001:10001
CMD ["python", "-m", "services.weak_model", "worker"]

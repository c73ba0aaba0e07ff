# One image, every role: `python -m worker ROLE`. Built from the hashed lock; runs as nobody's user, read-only.
FROM python:3.11-slim AS build
ARG LOCK=requirements.lock
ENV UV_COMPILE_BYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv && python -m pip install --quiet --no-cache-dir uv
COPY ${LOCK} /build/requirements.lock
RUN VIRTUAL_ENV=/venv uv pip sync --quiet --require-hashes --no-cache /build/requirements.lock

FROM python:3.11-slim
RUN groupadd --system --gid 10001 acis && useradd --system --uid 10001 --gid acis --home-dir /nonexistent acis
COPY --from=build /venv /venv
COPY config /app/config
COPY mlops /app/mlops
COPY tasks /app/tasks
COPY worker /app/worker
COPY admin /app/admin
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MLFLOW_DISABLE_TELEMETRY=true ACIS_LOG_FORMAT=json ACIS_VAR_DIR=/tmp/acis ACIS_FLOWER_HOST=0.0.0.0 HOME=/tmp
USER 10001:10001
ENTRYPOINT ["python", "-m", "worker"]

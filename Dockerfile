# One image per service: Python, our wheel and the dependencies of that service's extra, nothing else. All wheels come
# from one stage, where the lock's hashes vouch for them; what follows installs from there, without a network.
ARG PYTHON_IMAGE=python:3.13.9-slim-trixie

FROM ${PYTHON_IMAGE} AS wheels
WORKDIR /src
COPY requirements/dev.txt requirements/
RUN python -m pip --quiet download --require-hashes --only-binary :all: --dest /wheels -r requirements/dev.txt
COPY . .
RUN python -m venv /build \
 && /build/bin/pip --quiet install --no-index --find-links /wheels hatchling \
 && /build/bin/pip --quiet wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

FROM wheels AS installed
ARG EXTRAS
RUN python -m venv /app \
 && /app/bin/pip --quiet install --no-index --find-links /wheels "trivault[${EXTRAS}]" \
 && /app/bin/pip --quiet uninstall --yes pip

FROM ${PYTHON_IMAGE} AS service
COPY --from=installed /app /app
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# An empty volume takes over the owner of the folder that it is mounted at.
RUN install -d -o 10002 -g 10002 -m 700 /var/lib/hpke
USER 10000:10000

FROM service AS tools
USER 0
RUN for folder in vault registry client work seen data \
      secrets/gateway secrets/cryptor secrets/keystore secrets/mapstore secrets/datastore secrets/s3 secrets/rabbitmq \
      secrets/gateway-db secrets/keystore-db secrets/mapstore-db; \
    do install -d -o 10000 -g 10000 -m 700 "/$folder"; done
USER 10000:10000

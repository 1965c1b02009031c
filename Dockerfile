# The sidecar's image. What goes in is locked: the base by its digest, packages by their hashes.
# Another base with Python 3.11 or later may be named: --build-arg BASE=...
ARG BASE=python:3.13-slim@sha256:6771159cd4fa5d9bba1258caf0b82e6b73458c694d178ad97c5e925c2d0e1a91

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install -q --require-hashes --only-binary :all: -r requirements/build.txt \
 && python3 -m venv /opt/sidecar \
 && /opt/sidecar/bin/pip install -q --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ARCHITECTURE.md ./
COPY sidecar sidecar
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation -w /src/dist . \
 && /opt/sidecar/bin/pip install -q --no-deps --no-index /src/dist/*.whl \
 && /opt/build/bin/cyclonedx-py environment /opt/sidecar/bin/python -o /opt/sidecar/sbom.cdx.json \
 && /opt/sidecar/bin/pip uninstall -q -y pip setuptools

FROM ${BASE}
COPY --from=build /opt/sidecar /opt/sidecar
# State, sockets and what is lent are all that this user has, and nobody else has its number.
RUN set -- /var/lib/sidecar /run/sidecar /run/credentials \
 && mkdir -p -m 0700 "$@" && chown 10001:10001 "$@"
ENV PATH=/opt/sidecar/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/sidecar RUNTIME_DIRECTORY=/run/sidecar CREDENTIALS_DIRECTORY=/run/credentials
WORKDIR /var/lib/sidecar
USER 10001:10001
EXPOSE 8443
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["sidecar", "check", "--quiet", "--only", "ready", "-c", "/etc/sidecar/sidecar.yaml"]
ENTRYPOINT ["sidecar"]
CMD ["run", "-c", "/etc/sidecar/sidecar.yaml"]

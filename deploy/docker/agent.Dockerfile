# The edge agent alone, with the four packages that a device needs; builds for arm64 and arm/v7 too.
FROM python:3.13-slim-bookworm AS build
RUN python -m venv /opt/headwater
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY headwater headwater
COPY edge_agent edge_agent
COPY gateway gateway
COPY cloud_processor cloud_processor
COPY simulators simulators
COPY dashboards dashboards
# For arm/v7: --build-arg PIP_EXTRA_INDEX_URL=… of piwheels, else numpy is compiled.
ARG PIP_EXTRA_INDEX_URL
RUN /opt/headwater/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.13-slim-bookworm
COPY --from=build /opt/headwater /opt/headwater
ENV PATH=/opt/headwater/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["headwater"]
CMD ["agent", "--help"]

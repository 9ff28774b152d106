# Gateway, processor, page and tools: one image, one command each. Built by `docker compose build`.
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
RUN /opt/headwater/bin/pip install --no-cache-dir --disable-pip-version-check '.[hub,influx,kafka]'

FROM python:3.13-slim-bookworm
COPY --from=build /opt/headwater /opt/headwater
ENV PATH=/opt/headwater/bin:$PATH PYTHONUNBUFFERED=1
# Compose runs it as the user who made the secrets; this one is for everybody else.
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["headwater"]
CMD ["--help"]

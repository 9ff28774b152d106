# Flink's JobManager and TaskManager, and what submits the job: Apache Flink as the wheel of PyFlink holds it, with Java 17,
# the connector and our jar, laid out by `headwater flink install` as on any machine.
FROM python:3.11-slim-bookworm AS build
# Some of what PyFlink needs comes as sources in C.
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv /opt/headwater
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY headwater headwater
COPY edge_agent edge_agent
COPY gateway gateway
COPY cloud_processor cloud_processor
COPY simulators simulators
COPY dashboards dashboards
RUN /opt/headwater/bin/pip install --no-cache-dir --disable-pip-version-check '.[hub,influx,kafka]' \
    && /opt/headwater/bin/headwater flink install --set flink.environment=/opt/flink \
    && rm -rf /opt/flink/classes

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/headwater /opt/headwater
COPY --from=build /opt/flink /opt/flink
# Whatever user it runs as has no line in passwd; Java and Python ask for a name and a home.
ENV PATH=/opt/headwater/bin:$PATH PYTHONUNBUFFERED=1 HEADWATER_FLINK__ENVIRONMENT=/opt/flink HOME=/tmp USER=headwater
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["headwater"]
CMD ["flink", "--help"]

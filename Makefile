# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAMP_TEST := $(VENV)/.installed-test

.PHONY: help demo kafka influxdb2 test test-flink test-kafka check format bench fuzz crash influx-crash influx-panels influxql chaos backbone screenshots \
	clean

help:  ## Print the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) scripts/venv.py $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[hub]'
	@touch $@

$(STAMP_TEST): pyproject.toml | $(BIN)/python
	URLLIB3_NO_OVERRIDE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-binary urllib3-future -e '.[hub,test]'
	@touch $@ $(STAMP)

demo: $(STAMP)  ## Run the whole pipeline in one process with a live page
	$(BIN)/headwater demo $(ARGS)

kafka: $(STAMP)  ## Start an Apache Kafka on loopback and print its URL; scripts/kafka.py stop ends it
	@$(BIN)/python scripts/install_servers.py kafka
	@$(BIN)/python -c "import confluent_kafka" 2>/dev/null || $(BIN)/python -m pip install --quiet -e '.[hub,kafka]'
	@$(BIN)/python scripts/kafka.py start $(ARGS)

check: $(STAMP_TEST)  ## Lint, types, architecture, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture tests/docs

test: $(STAMP_TEST)  ## Install what tests need, real servers included, and run everything
	$(BIN)/python scripts/install_servers.py
	$(MAKE) check
	$(BIN)/python -m pytest -m "not flink" $(ARGS)

test-flink: $(STAMP_TEST)  ## The tasks on Flink, with kills, savepoints and rescaling
	$(BIN)/python scripts/install_servers.py kafka flink
	.venv-flink/bin/python -m pip install --quiet --disable-pip-version-check pytest pytest-socket hypothesis
	CI=true $(BIN)/python -m pytest tests/flink $(ARGS)

test-kafka: $(STAMP_TEST)  ## Kill, hang and restart Kafka brokers: five rounds, and two minutes without a quorum
	$(BIN)/python scripts/install_servers.py kafka
	HEADWATER_KAFKA_ROUNDS=5 HEADWATER_KAFKA_PAUSE_S=120 $(BIN)/python -m pytest tests/integration/test_log_kafka_faults.py $(ARGS)

format: $(STAMP_TEST)  ## Format the code
	$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

bench: $(STAMP_TEST)  ## Run all benchmarks, one JSON object each
	for name in codec edge gateway processor store pipeline; do $(BIN)/headwater bench $$name --json || exit 1; done

fuzz: $(STAMP_TEST)  ## A million hostile inputs for every decoder
	$(BIN)/python scripts/fuzz.py --inputs 1000000

crash: $(STAMP_TEST)  ## kill -9 at 20 random moments: the demo, then agent, gateway and processor
	$(BIN)/python scripts/crash.py --rounds 20

influxql: $(STAMP_TEST)  ## Ask the page and a real InfluxDB the same 100000 queries (QUERIES=, SEED=)
	HEADWATER_INFLUXQL_QUERIES=$(or $(QUERIES),100000) HEADWATER_INFLUXQL_SEED=$(or $(SEED),17) $(BIN)/python -m pytest -q -s tests/integration/dashboards/test_influxql_server.py -k thousands

chaos: $(STAMP_TEST)  ## The kill matrix over Mosquitto, Kafka and Flink: ten rounds per victim, half an hour and more
	$(BIN)/python scripts/install_servers.py mosquitto kafka flink
	$(BIN)/python scripts/chaos.py $(ARGS)

backbone: $(STAMP_TEST)  ## Five minutes of 500 devices between Mosquitto and Kafka, with guests; ARGS="--processor flink"
	$(BIN)/python scripts/install_servers.py mosquitto kafka flink pysparkplug
	$(BIN)/python scripts/backbone.py $(ARGS)

influx-crash: $(STAMP_TEST)  ## Ten minutes of a store on InfluxDB that is killed every half minute
	HEADWATER_CAMPAIGN_S=600 $(BIN)/python -m pytest -q tests/integration/test_influx_pipeline.py

influx-panels: $(STAMP_TEST)  ## Ask everything that the dashboards ask, after 5 minutes of 200 devices over an InfluxDB that was dead for 2
	$(BIN)/python scripts/install_servers.py influxdb
	$(BIN)/python scripts/panel_answers.py $(ARGS)

influxdb2: $(STAMP_TEST)  ## Build a real InfluxDB 2.7 for the tests that use it (Go, Rust, clang; 15 minutes or more)
	$(BIN)/python scripts/influxdb2.py

screenshots: $(STAMP_TEST)  ## Draw every screen at 1280 and 360 px with headless Chromium
	$(BIN)/python scripts/install_servers.py chromium
	$(BIN)/python scripts/screenshots.py

clean:  ## Remove what was built
	rm -rf $(VENV) build dist *.egg-info

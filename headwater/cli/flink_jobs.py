"""The job of one pipeline on a Flink cluster: found, submitted with the state it had, stopped with a savepoint."""

import fcntl
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import cloud_processor
import headwater
from cloud_processor.settings import ProcessorSettings
from headwater import log_topics
from headwater.cli.engines import open_log, url_of
from headwater.cli.flink_record import is_stopped, keep_job, last_job, mark_stopped, stopping
from headwater.cli.flink_settings import FLINK, FlinkSettings
from headwater.cli.kafka_settings import KAFKA, KafkaSettings, servers_of
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table
from headwater.errors import SettingsError
from headwater.instant import US_PER_S
from headwater.io.flink_cluster import FlinkCluster
from headwater.io.flink_environment import FLINK as VERSION
from headwater.io.flink_environment import FlinkEnvironment
from headwater.io.flink_job import FlinkJob, newest_state, submit
from headwater.io.flink_rest import FlinkRest
from headwater.settings import Table

US_PER_MS = US_PER_S // 1000
SOURCES = Path(cloud_processor.__file__).parent / "flink"
PACKAGES = (Path(headwater.__file__).parent, Path(cloud_processor.__file__).parent)


class FlinkJobs:
    """What the settings say of Flink, and what can be done with it.

    Args:
        settings: all tables.
        url: of the cluster; "": `[pipeline] processor`, or the cluster of this data folder.
    """

    def __init__(self, settings: Mapping[str, Table], url: str = "") -> None:
        self._tables = settings
        self._flink = table(settings, "flink", FlinkSettings)
        self._pipeline = table(settings, "pipeline", PipelineSettings)
        self._url = url or self._pipeline.processor
        self.environment = FlinkEnvironment(self._flink.folder)
        self._folder = self._pipeline.folder / "flink"
        self.cluster = FlinkCluster(self._folder, self.environment)

    @property
    def url(self) -> str:
        """Of the cluster that is meant. ConnectError: none was named and none was started here."""
        return self._url or self.cluster.url

    @property
    def rest(self) -> FlinkRest:
        """Its REST interface."""
        return FlinkRest(self.url)

    @property
    def is_own(self) -> bool:
        """Tells whether it is the cluster of this data folder."""
        return bool(self.cluster.pids()) and self.url == self.cluster.url

    @property
    def checkpoints(self) -> str:
        """URL of the folder of the job's states; "": as the cluster is configured.

        >>> from headwater.cli.shared import table_classes
        >>> tables = {name: made() for name, made in table_classes().items()}
        >>> tables["flink"] = FlinkSettings(checkpoints="s3://states", name="hall 2")
        >>> FlinkJobs(tables, "flink://jobs.example:8081").checkpoints
        's3://states/hall%202'
        """
        if self._flink.checkpoints:
            # Pipelines may share the folder; none may go on from another one's state.
            return f"{self._flink.checkpoints.rstrip('/')}/{quote(self._flink.name, safe='')}"
        return self.cluster.checkpoints.as_uri() if self.is_own else ""

    @property
    def is_stopped(self) -> bool:
        """Tells whether `stop` was the last that was done to the job here."""
        return is_stopped(self._folder)

    def as_told(self) -> "FlinkJobs":
        """The same cluster with the settings of the job that was submitted last; with these ones if there was none.

        Raises:
            SettingsError: what was kept of it is not readable.
        """
        tables = last_job(self._folder)
        return self if tables is None else FlinkJobs(tables, self.url)

    def running(self) -> str:
        """Id of the pipeline's job if it is there, else ""."""
        return next(iter(self.rest.jobs(self._flink.name)), "")

    def submit(self, restore: str = "", *, is_fresh: bool = False) -> tuple[str, str]:
        """Submits the job; returns its id and the state it goes on from ("" if from none).

        Args:
            restore: savepoint or checkpoint; "": the newest that can be found.
            is_fresh: begin without state, at the oldest record of the log.

        Raises:
            SettingsError: something is missing, of another version, or the job is there already.
            ConnectError: the cluster or the log is away.
        """
        self.environment.check(SOURCES)
        self.log_url()
        version = str(self.rest.overview()["flink-version"])
        if version.rpartition(".")[0] != VERSION.rpartition(".")[0]:
            raise SettingsError(f"{self.url} runs Flink {version}; the job is for {VERSION}")
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "submit.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Else two commands could both find none running.
            if found := self.running():
                raise SettingsError(f"{self.url}: job {found} is running already: headwater flink stop")
            with_state = "" if is_fresh else restore or newest_state(self.checkpoints)
            job = self._hand_over(self._job(), with_state)
            keep_job(self._folder, self._tables, is_own=self.is_own)
        return job, with_state

    def stop(self) -> str:
        """Ends the job with a savepoint and returns where that is.

        Raises:
            SettingsError: no such job is running.
            ConnectError: the cluster is away, or the savepoint failed.
        """
        job = self.running()
        if not job:
            mark_stopped(self._folder)
            raise SettingsError(f"{self.url}: no job {self._flink.name!r} is running")
        with stopping(self._folder):
            return self.rest.stop(job, self.checkpoints or None)

    def log_url(self) -> str:
        """URL of the log. SettingsError: it is not on Kafka."""
        url = url_of(self._pipeline, "log")
        if not url.startswith(KAFKA):
            raise SettingsError(
                f"[pipeline] log = {url!r}: Flink reads Kafka; set it to kafka://HOST:PORT (docs/flink.md)"
            )
        return url

    def _job(self) -> FlinkJob:
        """What the settings say of it, and the log of its incarnation."""
        kafka = table(self._tables, "kafka", KafkaSettings)
        if kafka.security_protocol != "plaintext" and "security.protocol" not in self._flink.client:
            raise SettingsError(
                "[kafka] security_protocol is for librdkafka: tell the job's Java clients the same in [flink] client "
                '(security.protocol = "SASL_SSL", sasl.mechanism, sasl.jaas.config, …)'
            )
        processor = table(self._tables, "processor", ProcessorSettings)
        log = open_log(self._tables)
        try:
            incarnation = log.incarnation
        finally:
            log.close()
        return FlinkJob(
            self._flink.name,
            servers_of(self.log_url()),
            kafka.topic_prefix + log_topics.READINGS,
            kafka.topic_prefix + log_topics.RESULTS,
            processor.partitions,
            self._flink.python or str(self.environment.python),
            incarnation,
            {
                "processor": processor.model_dump(by_alias=True),
                "incarnation": incarnation,
                "run": secrets.token_hex(8),
                "instance": "flink",
            },
            parallelism=self._flink.parallelism,
            checkpoint_every_ms=self._flink.checkpoint_every_us // US_PER_MS,
            bundle_records=self._flink.bundle_records,
            bundle_ms=self._flink.bundle_us // US_PER_MS,
            checkpoints=self.checkpoints,
            record_bytes_max=kafka.message_max_bytes,
            client=self._flink.client,
        )

    def _hand_over(self, job: FlinkJob, restore: str) -> str:
        return submit(
            job,
            self.url,
            self.environment,
            program=SOURCES / "job.py",
            packages=PACKAGES,
            folder=self._folder / "submit",
            restore=restore,
        )


def is_flink(pipeline: PipelineSettings) -> bool:
    """Tells whether the processor is a job on Flink. SettingsError: it is neither that nor empty."""
    if pipeline.processor and not pipeline.processor.startswith(FLINK):
        raise SettingsError(
            f'[pipeline] processor = {pipeline.processor!r}: this version knows "" (this process) and {FLINK}HOST:PORT'
        )
    return bool(pipeline.processor)

"""The table `[influx]`: how a store on InfluxDB is written, where pipeline.store names one."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from headwater.io.store_influx_options import InfluxOptions, parse_address
from headwater.settings import DurationUs, Table

# Names stand in statements and URLs of the set-up, so they are as plain as those of devices.
Bucket = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class InfluxSettings(Table):
    """Buckets, rights, sizes and patience."""

    org: str = Field("", description="Organisation of an InfluxDB 2 server; the URL's ?org=NAME wins.")
    token_file: str = Field(
        "",
        description="File with the token that may write (1.x: user:password). "
        '"": DATA/influx-write.token if `headwater influx setup` wrote it, else none.',
    )
    read_token_file: str = Field(
        "",
        description="File with the token that may read, for the page's charts and Grafana. "
        '"": influx-read.token beside the other, if `headwater influx setup` wrote it, else that one.',
    )
    raw: Bucket = Field("raw", description="Bucket (1.x: database) for readings; kept for pipeline.telemetry_keep.")
    windows: Bucket = Field("windows", description="Bucket for windows; kept for pipeline.window_keep.")
    events: Bucket = Field(
        "events", description="Bucket for anomalies, health, device, alert and pipeline; kept for pipeline.event_keep."
    )
    lines_max: int = Field(10_000, ge=1, description="Points per request.")
    bytes_max: int = Field(4 << 20, ge=1024, description="Bytes per request, before compression.")
    gzip_level: int = Field(1, ge=0, le=9, description="1 (fast) to 9 (small); 0 sends plain bytes.")
    connect_us: DurationUs = Field(3_000_000, gt=0, description="How long to wait for a connection.")
    answer_us: DurationUs = Field(20_000_000, gt=0, description="How long to wait for an answer.")
    ca_file: str = Field("", description="Certificates to trust for influxdbs://, instead of the system's.")

    def options(self, url: str, folder: Path) -> InfluxOptions:
        """What the adapter needs; `folder` is the data folder.

        Raises:
            SettingsError: the URL is not one of an InfluxDB.
        """
        token = self.write_token(folder)
        return InfluxOptions(
            parse_address(url), self.org, token if self.token_file or token.exists() else None, self.raw, self.windows,
            self.events, self.lines_max, self.bytes_max, self.gzip_level, self.connect_us, self.answer_us, self.ca_file,
        )  # fmt: skip

    def write_token(self, folder: Path) -> Path:
        """Where the token that may write is, or where `headwater influx setup` puts it."""
        return Path(self.token_file) if self.token_file else folder / "influx-write.token"

    def read_token(self, folder: Path) -> Path:
        """Where the token that may only read is, or where it is put."""
        if self.read_token_file:
            return Path(self.read_token_file)
        return self.write_token(folder).with_name("influx-read.token")

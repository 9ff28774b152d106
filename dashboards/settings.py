"""Settings of the live page: the table `[page]`."""

from pydantic import Field

from headwater.address import is_loopback
from headwater.errors import SettingsError
from headwater.settings import DurationUs, Table

TOKEN_LENGTH_MIN = 16


class DashboardSettings(Table):
    """What the live page may show, to whom, and how often."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback a token is required.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    token: str = Field(
        "", description="Secret that opens the page; prefer token_file. Empty: loopback only.", repr=False
    )
    token_file: str = Field("", description="File that holds the token on its first line.")
    allowed_hosts: tuple[str, ...] = Field((), description="Host names under which browsers may ask for the page.")
    tick_us: DurationUs = Field(400_000, ge=100_000, description="Time between two batches of live events.")
    ping_us: DurationUs = Field(15_000_000, ge=1_000_000, description="Silence after which a live stream says ping.")
    events_max: int = Field(1024, ge=16, description="Live events kept for browsers that come back.")
    backlog_max: int = Field(
        64, ge=4, description="Events a slow browser may be behind before it gets only the latest."
    )
    streams_max: int = Field(64, ge=1, description="Live streams at the same time.")
    points_max: int = Field(4000, ge=100, description="Points that one answer may hold for one metric.")
    rows_max: int = Field(1000, ge=10, description="Rows that one answer may hold.")
    range_max_us: DurationUs = Field(31 * 86_400_000_000, ge=60_000_000, description="Longest time range of a chart.")
    reader_threads_max: int = Field(4, ge=1, le=32, description="Worker threads that read the store.")
    spark_us: DurationUs = Field(600_000_000, ge=10_000_000, description="Time that the small charts of a tile span.")
    sparks_per_tick_max: int = Field(6, ge=1, description="Small charts that are drawn anew per tick.")
    influxql_database: str = Field("headwater", min_length=1, description="Name under which Grafana asks by InfluxQL.")
    influxql_time_us: DurationUs = Field(10_000_000, ge=100_000, description="Longest time of one InfluxQL request.")
    influxql_points_max: int = Field(5_000_000, ge=1000, description="Points that one InfluxQL request may read.")
    influxql_values_max: int = Field(1_000_000, ge=1000, description="Values that one InfluxQL answer may hold.")
    influxql_series_max: int = Field(10_000, ge=1, description="Series that one InfluxQL statement may look at.")
    influxql_threads_max: int = Field(2, ge=1, le=32, description="InfluxQL requests that are answered at once.")
    login_tries_max: int = Field(5, ge=1, description="Failed logins per address and minute.")
    session_idle_us: DurationUs = Field(8 * 3_600_000_000, ge=60_000_000, description="Idle time that ends a login.")
    sessions_max: int = Field(256, ge=1, description="Logins at the same time.")


def check_exposure(host: str, token: str) -> None:
    """Refuses to show the page to a network without a token of fair length.

    Raises:
        SettingsError: the token is missing or short.
    """
    if token and len(token) < TOKEN_LENGTH_MIN:
        raise SettingsError(
            f"page.token has {len(token)} characters: use at least {TOKEN_LENGTH_MIN}, such as the output of "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if not token and not is_loopback(host):
        raise SettingsError(
            f"page.host is {host!r}, which other machines can reach, but no token is set: "
            'set page.token_file, or keep host = "127.0.0.1"'
        )

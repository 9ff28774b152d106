"""What the doctor looks at where the store is on InfluxDB: does the server answer, and may we write each bucket?"""

from collections.abc import Mapping

from headwater.cli.engines import influx_options, is_influx
from headwater.cli.influx_settings import InfluxSettings
from headwater.cli.pipeline import PipelineSettings
from headwater.cli.shared import table
from headwater.errors import ConnectError
from headwater.settings import Table

MENDS = {
    400: "are influx.org and pipeline.store (its version, its ?org=NAME) right?",
    401: "the token is wrong or missing: `headwater influx setup --admin-token-file FILE` writes one into influx.token_file",
    403: "the token may not write there: `headwater influx setup --admin-token-file FILE` makes one that may",
    404: "`headwater influx setup` makes the bucket",
}


def examine(settings: Mapping[str, Table]) -> tuple[bool, str, str] | None:
    """Returns (is good, what was seen, what to do); None where the store is not on InfluxDB."""
    pipeline, influx = table(settings, "pipeline", PipelineSettings), table(settings, "influx", InfluxSettings)
    if not is_influx(pipeline):
        return None
    from headwater.io.store_influx_http import InfluxHttp  # noqa: PLC0415  its client is in the extra `influx`

    http = InfluxHttp(influx_options(settings))
    try:
        version, told = http.told_version()
        words = f"{http.url}: " + (f"InfluxDB {told}" if told else "a server that tells no version")
        words += f", written as {version}.x"
        buckets = dict.fromkeys((influx.raw, influx.windows, influx.events))
        for bucket in buckets:
            answer = http.refusal(bucket)
            if answer is not None:
                mend = MENDS.get(answer.status, "look at the server's own messages")
                return False, f"{words}; {bucket!r}: {answer.status} {answer.message}".rstrip(), mend
    except ConnectError as error:
        return False, str(error), "start the server, or correct pipeline.store; meanwhile frames wait in the log"
    finally:
        http.close()
    return True, f"{words}, buckets {', '.join(buckets)}", ""

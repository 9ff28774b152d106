"""Makes what the store needs on an InfluxDB: buckets and tokens by influxdb-client (2.x), databases by InfluxQL (1.x).

Everything may be done again: what is there and right stays as it is.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.authorization import Authorization
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.permission import Permission
from influxdb_client.domain.permission_resource import PermissionResource
from influxdb_client.rest import ApiException

from headwater.errors import ConnectError, RejectedError
from headwater.instant import US_PER_S
from headwater.io.store_influx_http import InfluxHttp
from headwater.io.store_influx_options import InfluxOptions

KEEP_S_MIN = 3600
TIMEOUT_MS = 20_000
_PART = re.compile(r"(\d+)([hms])")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the server needs, and what was done about it: "made", "changed", "kept" or "left"."""

    what: str
    done: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What should be there.

    Attributes:
        keep_us: {bucket: how long it keeps points, 0 for ever}.
        write_file: gets a token that may write these buckets, and nothing else (2.x).
        read_file: gets one that may read them, for Grafana and the page (2.x).
    """

    keep_us: dict[str, int]
    write_file: Path
    read_file: Path


def set_up(options: InfluxOptions, wish: Wish) -> list[Step]:
    """Makes buckets and tokens with the rights of `options.token_file`, an administrator's.

    Raises:
        ConnectError: no answer.
        RejectedError: the server refuses; the message says what and why.
    """
    http = InfluxHttp(options)
    try:
        version, told = http.told_version()
        if version == 1:
            return _set_up_databases(http, wish)
        if version == 3:
            return [Step(f"bucket {name}: InfluxDB 3 makes it with the first write", "left") for name in wish.keep_us]
        if not told:
            raise RejectedError(
                f"{http.url} doesn't say that it is an InfluxDB: there is nothing to set up", reason="no InfluxDB"
            )
        # {"allowed": true}: nobody has set up the server itself.
        if b"true" in http.request("GET", "/api/v2/setup").body:
            raise RejectedError(
                f"{http.url} has no users yet: make the first one in its web page or by `influx setup`, then come back "
                "with its token",
                reason="no users",
            )
    finally:
        http.close()
    with _client(options) as client:
        org = _org_id(client, http.org)
        steps = [_bucket(client, org, name, keep_us) for name, keep_us in wish.keep_us.items()]
        steps.append(_token(client, options, org, wish, "write", wish.write_file))
        return [*steps, _token(client, options, org, wish, "read", wish.read_file)]


@contextmanager
def _client(options: InfluxOptions) -> Iterator[InfluxDBClient]:
    """An influxdb-client whose exceptions are ours."""
    token = options.token_file.read_text(encoding="utf-8").strip() if options.token_file else ""
    url, org = options.address.url, options.address.org or options.org
    try:
        with InfluxDBClient(url, token, timeout=TIMEOUT_MS, org=org, ssl_ca_cert=options.ca_file or None) as client:
            yield client
    except ApiException as error:
        raise RejectedError(
            f"{url} answers {error.status} {error.message or error.reason}", reason=str(error.status)
        ) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ConnectError(f"{url}: {error}") from error


def _org_id(client: InfluxDBClient, name: str) -> str:
    orgs = client.organizations_api().find_organizations()
    found = [org for org in orgs if name in {"", org.name}]
    if len(found) != 1:
        names = ", ".join(sorted(org.name for org in orgs)) or "none"
        raise RejectedError(f"which organisation? influx.org = {name!r}; the token sees {names}", reason="organisation")
    return str(found[0].id)


def _buckets(client: InfluxDBClient, org: str) -> dict[str, Any]:
    """All buckets of the organisation, by name."""
    return {bucket.name: bucket for bucket in client.buckets_api().find_buckets_iter(org_id=org)}


def _bucket(client: InfluxDBClient, org: str, name: str, keep_us: int) -> Step:
    seconds = _seconds(keep_us)
    what = f"bucket {name}, keeps {_words(seconds)}"
    bucket = _buckets(client, org).get(name)
    if bucket is None:
        rules = BucketRetentionRules(type="expire", every_seconds=seconds)
        client.buckets_api().create_bucket(bucket_name=name, org=org, retention_rules=rules)
        return Step(what, "made")
    if ([rule.every_seconds for rule in bucket.retention_rules or []] or [0]) == [seconds]:
        return Step(what, "kept")
    bucket.retention_rules = [BucketRetentionRules(type="expire", every_seconds=seconds)]
    client.buckets_api().update_bucket(bucket)
    return Step(what, "changed")


def _token(client: InfluxDBClient, options: InfluxOptions, org: str, wish: Wish, action: str, path: Path) -> Step:
    """A token with one right on each bucket; a file whose token still works stays."""
    what = f"token that may {action}, in {path}"
    if path.exists() and _works(replace(options, token_file=path), wish, action):
        return Step(what, "kept")
    description = f"headwater {action} {' '.join(wish.keep_us)}"
    api = client.authorizations_api()
    for old in api.find_authorizations(org_id=org):
        if old.description == description:
            api.delete_authorization(old)
    permissions = [
        Permission(action=action, resource=PermissionResource(type="buckets", id=bucket.id, org_id=org))
        for name, bucket in _buckets(client, org).items()
        if name in wish.keep_us
    ]
    wanted = Authorization(org_id=org, permissions=permissions, description=description)
    made = api.create_authorization(authorization=wanted)
    write_secret(path, made.token)
    return Step(what, "made")


def _works(options: InfluxOptions, wish: Wish, action: str) -> bool:
    http = InfluxHttp(options)
    try:
        if action == "write":
            return all(http.refusal(name) is None for name in wish.keep_us)
        for name in wish.keep_us:
            http.query(name, "SHOW MEASUREMENTS LIMIT 1")
    except ConnectError:
        return False
    else:
        return True
    finally:
        http.close()


def write_secret(path: Path, text: str) -> None:
    """Replaces a file that only its owner can read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    fresh.replace(path)


def _set_up_databases(http: InfluxHttp, wish: Wish) -> list[Step]:
    """Databases whose default retention policy keeps so long; names are as plain as `InfluxSettings` lets them be."""
    there = {row[0] for series in http.query("", "SHOW DATABASES") for row in series.get("values", [])}
    steps = []
    for name, keep_us in wish.keep_us.items():
        seconds = _seconds(keep_us)
        what, duration = f"database {name}, keeps {_words(seconds)}", f"{seconds}s" if seconds else "INF"
        if name not in there:
            http.query("", f'CREATE DATABASE "{name}" WITH DURATION {duration} REPLICATION 1 NAME "autogen"')
            steps.append(Step(what, "made"))
            continue
        (series,) = http.query("", f'SHOW RETENTION POLICIES ON "{name}"')
        policies: list[dict[str, Any]] = [dict(zip(series["columns"], row, strict=True)) for row in series["values"]]
        policy = next(policy for policy in policies if policy["default"])
        if sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(policy["duration"])) == seconds:
            steps.append(Step(what, "kept"))
            continue
        http.query("", f'ALTER RETENTION POLICY "{policy["name"]}" ON "{name}" DURATION {duration}')
        steps.append(Step(what, "changed"))
    return steps


def _seconds(keep_us: int) -> int:
    """What InfluxDB can keep: for ever, or an hour at the least."""
    return max(keep_us // US_PER_S, KEEP_S_MIN) if keep_us else 0


def _words(seconds: int) -> str:
    if not seconds:
        return "for ever"
    return f"{seconds / 86_400:g} days" if seconds >= 86_400 else f"{seconds / 3_600:g} h"

"""The REST interface of a Flink cluster: its jobs, what they do, and how to stop them with a savepoint."""

import json
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from headwater.errors import ConnectError, RejectedError, SettingsError

TIMEOUT_S: Final = 20.0
LATELY_MS: Final = 5 * 60 * 1000
NOT_YET: Final = b"UnavailableDispatcherOperationException"
LIVING: Final = frozenset({"CREATED", "INITIALIZING", "RUNNING", "FAILING", "RESTARTING", "RECONCILING"})


class NotReadyError(ConnectError):
    """The cluster is there and can't answer this yet."""


class FlinkRest:
    """Asks one cluster, `flink://host:port`.

    Args:
        url: flink://host:port; the port is 8081 where none is given.
        timeout_s: how long to wait for an answer.

    Raises:
        SettingsError: the URL is another one.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme != "flink" or not parts.hostname:
            raise SettingsError(f"{url!r}: write flink://host:8081")
        self.address = f"{parts.hostname}:{parts.port or 8081}"
        self._timeout_s = timeout_s

    def overview(self) -> dict[str, Any]:
        """Slots, TaskManagers, version."""
        found: dict[str, Any] = self._ask("/overview")
        return found

    def jobs(self, name: str) -> list[str]:
        """Ids of the living jobs of this name, the newest first."""
        jobs = sorted(self._ask("/jobs/overview")["jobs"], key=lambda job: -int(job["start-time"]))
        return [job["jid"] for job in jobs if job["name"] == name and job["state"] in LIVING]

    def ended(self, name: str) -> tuple[str, str]:
        """How the newest job of this name ended that the cluster remembers: (state, cause); ("", "") if it knows none."""
        jobs = sorted(self._ask("/jobs/overview")["jobs"], key=lambda job: -int(job["end-time"]))
        for job in jobs:
            if job["name"] == name and job["state"] not in LIVING:
                failures = self._ask(f"/jobs/{job['jid']}/exceptions")["exceptionHistory"]["entries"]
                return str(job["state"]), _cause(failures[0]["stacktrace"]) if failures else ""
        return "", ""

    def status(self, job: str) -> dict[str, Any]:
        """State, running and wanted tasks, restarts, checkpoints, failures (16 are kept) and the newest one of a job.

        Times are by the cluster's own clock: `running_s` since the job began, `checkpoint_age_s` of the newest complete
        checkpoint (null without one), `failures_lately` within five minutes.
        """
        told, points = self._ask(f"/jobs/{job}"), self._ask(f"/jobs/{job}/checkpoints")
        restarts = self._ask(f"/jobs/{job}/metrics?get=numRestarts")
        failures = self._ask(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        newest = points["latest"]["completed"] or {}
        now_ms = int(told["now"])
        return {
            "job": job,
            "state": told["state"],
            "running_s": (now_ms - int(told["start-time"])) / 1000,
            "tasks_running": sum(vertex["tasks"]["RUNNING"] for vertex in told["vertices"]),
            "tasks": sum(vertex["parallelism"] for vertex in told["vertices"]),
            "restarts": next((int(float(found["value"])) for found in restarts), 0),
            "checkpoints": points["counts"]["completed"],
            "checkpoints_failed": points["counts"]["failed"],
            "checkpoint_age_s": (now_ms - int(newest["latest_ack_timestamp"])) / 1000 if newest else None,
            "checkpoint_failure": (points["latest"]["failed"] or {}).get("failure_message", ""),
            "checkpoint_bytes": newest.get("state_size", 0),
            "checkpoint_ms": newest.get("end_to_end_duration", 0),
            "failures": len(failures),
            "failures_lately": sum(now_ms - int(found["timestamp"]) < LATELY_MS for found in failures),
            "failure": _cause(failures[0]["stacktrace"]) if failures else "",
        }

    def stop(self, job: str, folder: str | None = None, timeout_s: float = 120.0) -> str:
        """Ends a job with a savepoint and returns where that is.

        Raises:
            ConnectError: the savepoint failed or took too long; the job may go on.
        """
        body = {"drain": False} | ({"targetDirectory": folder} if folder else {})
        trigger = self._ask(f"/jobs/{job}/stop", body)["request-id"]
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            found = self._ask(f"/jobs/{job}/savepoints/{trigger}")
            if found["status"]["id"] == "COMPLETED":
                operation = found["operation"]
                if "location" in operation:
                    return str(operation["location"])
                raise ConnectError(f"the savepoint failed: {_cause(operation['failure-cause'].get('stack-trace', ''))}")
            time.sleep(0.1)
        raise ConnectError(f"no savepoint of job {job} within {timeout_s:.0f} s")

    def cancel(self, job: str) -> None:
        """Ends a job without a savepoint; its checkpoints stay."""
        self._ask(f"/jobs/{job}?mode=cancel", method="PATCH")

    def _ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            said = error.read()
            # While it starts, elects a leader, or makes a job ready that it has just taken.
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE or NOT_YET in said:
                raise NotReadyError(f"Flink at {self.address} is not ready: {said[:300]!r}") from error
            raise RejectedError(
                f"Flink at {self.address} refuses {path}: {said[:300]!r}", reason=str(error.code)
            ) from error
        except (OSError, ValueError) as error:
            raise ConnectError(f"no Flink at {self.address}: {error}") from error


def _cause(stack: str) -> str:
    """The innermost cause of a Java stack trace, in one line."""
    causes = [line for line in stack.splitlines() if line.startswith("Caused by:")] or stack.splitlines()[:1]
    return causes[-1].removeprefix("Caused by:").strip()[:500] if causes else ""

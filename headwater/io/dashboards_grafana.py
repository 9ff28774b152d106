"""Dashboards in a running Grafana: put there, looked up and fetched by its HTTP API (grafana-client)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, GrafanaServerError, GrafanaTimeoutError
from niquests.exceptions import JSONDecodeError, RequestException

from headwater.errors import ConnectError, RejectedError

TIMEOUT_S = 10.0
PAGE = 500


class GrafanaDashboards:
    """One Grafana as a service account sees it; every method blocks for at most TIMEOUT_S.

    Args:
        url: where Grafana answers, with a path if it stands behind one.
        token: of a service account with the role Editor; "" for a Grafana that lets anybody in.

    Raises:
        ConnectError: from every method: Grafana can't be reached, or says that it is not ready.
        RejectedError: from every method: it refuses, with its own words.
    """

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        path = parts.path.strip("/")
        self._url = url
        self._api: Any = GrafanaApi(
            token or None,
            host=parts.hostname or "localhost",
            port=parts.port,
            protocol=parts.scheme,
            url_path_prefix=f"{path}/" if path else "",
            timeout=TIMEOUT_S,
        )

    def close(self) -> None:
        """Closes its connections."""
        self._api.client.s.close()

    def version(self) -> str:
        """Asks whether it is there; returns its version."""
        with self._asked():
            answer = self._api.health.check()
            return str(answer.get("version", "")) if isinstance(answer, dict) else ""

    def make_folder(self, uid: str, title: str) -> None:
        """Makes the folder unless it is there."""
        with self._asked():
            try:
                self._api.folder.get_folder(uid)
            except GrafanaClientError as error:
                if error.status_code != 404:
                    raise
                self._api.folder.create_folder(title, uid)

    def push(self, dashboard: Mapping[str, Any], folder_uid: str) -> int:
        """Makes or replaces the dashboard of that uid; returns the version that Grafana gave it."""
        with self._asked():
            answer = self._api.dashboard.update_dashboard(
                {
                    "dashboard": {**dashboard, "id": None},
                    "folderUid": folder_uid,
                    "overwrite": True,
                    "message": "headwater dashboards push",
                }
            )
            return int(answer["version"])

    def uids(self, tag: str) -> list[str]:
        """Returns the uids of all dashboards that carry the tag, sorted."""
        found: set[str] = set()
        page = 1
        with self._asked():
            while True:
                rows = self._api.search.search_dashboards(tag=tag, type_="dash-db", limit=PAGE, page=page)
                found |= {str(row["uid"]) for row in rows}
                if len(rows) < PAGE:
                    return sorted(found)
                page += 1

    def fetch(self, uid: str) -> dict[str, Any]:
        """Returns a dashboard as classic JSON, without what only this Grafana knows (its id and version)."""
        with self._asked():
            answer = dict(self._api.dashboard.get_dashboard(uid)["dashboard"])
        return {name: value for name, value in answer.items() if name not in {"id", "version", "iteration"}}

    def sources(self) -> set[str]:
        """Returns the uids of its data sources."""
        with self._asked():
            return {str(row["uid"]) for row in self._api.datasource.list_datasources()}

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except GrafanaServerError as error:
            raise ConnectError(f"Grafana at {self._url} is in trouble: {error.message}") from error
        except GrafanaTimeoutError as error:
            raise ConnectError(f"Grafana at {self._url} did not answer in {TIMEOUT_S:g} s") from error
        except GrafanaException as error:
            refusal = f"Grafana at {self._url} refuses ({error.status_code}): {_words(error)}"
            raise RejectedError(refusal, reason=str(error.status_code)) from error
        except (JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ConnectError(f"what answers at {self._url} does not speak like a Grafana: {error!r}") from error
        except RequestException as error:
            raise ConnectError(f"no Grafana answers at {self._url}: {error}") from error


def _words(error: GrafanaException) -> str:
    hints = {
        401: "the token is wrong or has ended: put a service account's token into grafana.token_file",
        403: "the token may not do that: its service account needs the role Editor",
    }
    told = error.response.get("message") if isinstance(error.response, dict) else None
    if "provisioned" in str(told):
        return f"{told}; these dashboards came from provisioning files: change those, or push to another Grafana"
    return hints.get(error.status_code, str(told or error.message))

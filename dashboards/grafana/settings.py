"""Settings of the table `[grafana]`: the Grafana that dashboards are pushed to."""

import re

from pydantic import Field, field_validator

from headwater.settings import Table

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?(/[\w./-]*)?")


class GrafanaSettings(Table):
    """Where `headwater dashboards push` and `export` find Grafana; provisioning by files needs none of it."""

    url: str = Field("http://127.0.0.1:3000", description="Where Grafana answers.")
    token_file: str = Field("", description="File that holds a service account's token on its first line.")
    folder: str = Field("Headwater", min_length=1, description="Folder that the dashboards are put into.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("a secret in an address is shown in messages: use token_file")
        if not _ADDRESS.fullmatch(value):
            raise ValueError("write an address such as http://127.0.0.1:3000")
        return value

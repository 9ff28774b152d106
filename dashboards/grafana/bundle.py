"""All files that Grafana's provisioning reads, as text by path."""

import json
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import anomalies, device, fleet, maintenance, pipeline, rules, sources
from dashboards.grafana.outline import outline
from dashboards.grafana.screen import Screen

# Where the compose file mounts the dashboards inside Grafana.
MOUNTED = "/etc/grafana/provisioning/dashboards/headwater"


def screens() -> tuple[Screen, ...]:
    """The dashboards, in the order of the menu."""
    return tuple(found.screen() for found in (fleet, device, anomalies, maintenance, pipeline))


def files() -> dict[str, str]:
    """Returns {path below dashboards/grafana/provisioning: text}; equal code gives equal text."""
    provider = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "headwater",
                "orgId": 1,
                "folder": "Headwater",
                "folderUid": "headwater",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 30,
                "options": {"path": MOUNTED},
            }
        ],
    }
    return {
        "datasources/headwater.yaml": yaml_text(sources.provisioned()),
        "dashboards/headwater.yaml": yaml_text(provider),
        "alerting/rules.yaml": yaml_text(rules.provisioned(screens())),
        "alerting/contact-points.yaml": yaml_text(rules.contacts()),
        "alerting/policies.yaml": yaml_text(rules.policies()),
        **{f"dashboards/headwater/{screen.uid}.json": json_text(screen.dashboard()) for screen in screens()},
    }


def json_text(value: Any) -> str:
    """Writes a dashboard as Grafana exports it: two spaces, keys in order."""
    plain = json.loads(json.dumps(value, cls=JSONEncoder))
    for part in (*plain["links"], *plain["annotations"]["list"]):
        # The SDK would hide both in a menu; people look for them above the dashboard.
        part.pop("placement", None)
    for panel in plain["panels"]:
        if "repeat" not in panel:
            panel.pop("repeatDirection", None)
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def yaml_text(value: Any) -> str:
    """Writes a provisioning file, block style, keys as they come, nothing by reference."""
    plain = json.loads(json.dumps(value))
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
    return f"# Written by `headwater dashboards build`.\n{text}"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes equal parts again instead of pointing at them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        del data
        return True


def described() -> str:
    """Returns the outline of all dashboards, as docs/grafana.md holds it."""
    return outline(json.loads(json_text(screen.dashboard())) for screen in screens())

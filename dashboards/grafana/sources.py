"""The data sources: the plant's InfluxDB, and the InfluxQL that the live page answers from its own store."""

from typing import Any

INFLUXDB_UID = "headwater-influxdb"
PAGE_UID = "headwater-page"
UIDS = (INFLUXDB_UID, PAGE_UID)
# What alert rules call their own arithmetic.
EXPRESSION = "__expr__"
# What stands for the chosen data source in panels, variables and annotations.
CHOSEN = "${ds}"


def provisioned() -> dict[str, Any]:
    """Returns the provisioning file of both; Grafana puts environment variables into the values.

    The token goes into a header, which InfluxDB 2 wants for InfluxQL and InfluxDB 1 without users passes over.
    """
    influxdb = {
        "name": "Headwater",
        "uid": INFLUXDB_UID,
        "type": "influxdb",
        "access": "proxy",
        "url": "$HEADWATER_INFLUX_URL",
        "isDefault": True,
        "editable": False,
        "jsonData": {
            "version": "InfluxQL",
            "dbName": "$HEADWATER_INFLUX_DATABASE",
            "httpMode": "POST",
            "timeInterval": "1s",
            "httpHeaderName1": "Authorization",
        },
        "secureJsonData": {"httpHeaderValue1": "Token $HEADWATER_INFLUX_READ_TOKEN"},
    }
    page = {
        "name": "Headwater page",
        "uid": PAGE_UID,
        "type": "influxdb",
        "access": "proxy",
        "url": "$HEADWATER_PAGE_URL",
        "editable": False,
        "jsonData": {
            "version": "InfluxQL",
            "dbName": "headwater",
            "httpMode": "POST",
            "timeInterval": "1s",
            "httpHeaderName1": "Authorization",
        },
        "secureJsonData": {"httpHeaderValue1": "Bearer $HEADWATER_PAGE_TOKEN"},
    }
    return {"apiVersion": 1, "prune": True, "datasources": [influxdb, page]}

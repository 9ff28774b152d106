"""Home Assistant's side and a device of its kind, both by paho, against the real gateway and its log."""

import json
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from gateway_server import Running, until
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.home_assistant_config import parse_config, parse_discovery_topic, value_of

pytestmark = pytest.mark.integration


def paho_client(client_id: str, port: int, will: tuple[str, bytes] | None = None) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv311)
    if will is not None:
        client.will_set(will[0], will[1], qos=1, retain=True)
    up = threading.Event()
    client.on_connect = lambda *_: up.set()
    client.connect("127.0.0.1", port, keepalive=20)
    client.loop_start()
    assert up.wait(40)
    return client


class Viewer:
    """Does what Home Assistant does: follows discovery, subscribes to state topics, keeps the newest value of each."""

    def __init__(self, port: int) -> None:
        self.entities: dict[str, Any] = {}
        self.values: dict[str, float | None] = {}
        self.client = paho_client("home-assistant", port)
        self.client.on_message = self._take
        self.client.subscribe("homeassistant/#", 1)

    def _take(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        found = parse_discovery_topic(message.topic, "homeassistant")
        if found is not None and not message.payload:
            self.entities.pop(message.topic, None)
        elif found is not None:
            self.entities[message.topic] = parse_config(found, message.payload)
            client.subscribe(self.entities[message.topic].state_topic, 0)
        else:
            for topic, entity in self.entities.items():
                if entity.state_topic == message.topic:
                    self.values[topic] = value_of(entity.path, message.payload, json.loads(message.payload))

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_home_assistant_finds_every_metric_with_its_values_and_loses_what_falls_silent(tmp_path: Path) -> None:
    # Neither the time between states nor that of silence can be set shorter than a second and a minute.
    with Running(tmp_path, home_assistant=True, home_assistant_every="1s") as server:
        device = paho_client("device", server.port)
        device.publish("hw/1/north/esp-1/json", b'{"temp": 21.5, "flow/in": 3}', qos=1).wait_for_publish(40)
        viewer = Viewer(server.port)
        temp = "homeassistant/sensor/north_esp-1/temp/config"
        until(lambda: len(viewer.entities) == 2)

        def tell() -> bool:
            device.publish("hw/1/north/esp-1/json", b'{"temp": 22.5}', qos=1).wait_for_publish(40)
            return viewer.values.get(temp) == 22.5

        until(tell)
        assert set(viewer.values.values()) == {22.5, 3.0}
        device.publish("hw/1/north/esp-1/state", b'{"temp": 99}', qos=1).wait_for_publish(40)
        until(lambda: server.gateway.counters()["dead_letters"] == 1)
        home = server.gateway._home
        assert home is not None
        home._forget_us = 0  # The week is over.
        until(lambda: not viewer.entities)
        for client in (device, viewer.client):
            client.disconnect()
            client.loop_stop()


def test_a_device_of_home_assistants_kind_is_admitted_and_goes_offline_with_its_will(tmp_path: Path) -> None:
    with Running(tmp_path, home_assistant_devices=True) as server:
        device = paho_client("esp", server.port, ("porch/status", b"offline"))
        base = {"~": "porch", "avty_t": "~/status"}
        sensors = {"temp": {"stat_t": "~/climate", "val_tpl": "{{ value_json.temp }}"}, "rssi": {"stat_t": "~/rssi"}}
        for name, told in sensors.items():
            topic = f"homeassistant/sensor/porch/{name}/config"
            device.publish(topic, json.dumps(base | told), qos=1, retain=True).wait_for_publish(40)
        device.publish("porch/status", b"online", qos=1, retain=True).wait_for_publish(40)
        device.publish("porch/climate", b'{"temp": 21.5, "mode": "auto"}', qos=1).wait_for_publish(40)
        device.publish("porch/rssi", b"-61", qos=1).wait_for_publish(40)
        stored = [
            (batch.devices[0], metric, value)
            for batch in server.batches()
            for metric, value in zip(batch.metrics, batch.value.tolist(), strict=True)
        ]
        assert stored == [(("home", "porch"), "temp", 21.5), (("home", "porch"), "rssi", -61.0)]
        assert server.gateway.counters()["devices_online"] == 1
        sock = device.socket()
        assert sock is not None
        device.loop_stop()
        sock.close()
        until(lambda: server.gateway.counters()["devices_online"] == 0)
        assert server.gateway.counters()["dead_letters"] == 0

"""The settings table `[simulator]`: the plant, and the load that `headwater simulate` puts on a gateway."""

from pydantic import Field

from headwater.settings import DurationUs, Table


class SimulatorSettings(Table):
    """What is simulated and where it is sent."""

    seed: int = Field(default=1, ge=0, description="The plant is a pure function of it.")
    devices: int = Field(default=20, ge=1, le=100_000, description="Machines in the plant.")
    wear_speed: float = Field(default=1.0, gt=0, description="How much faster than in life components wear out.")
    faults_per_day: float = Field(default=0.8, ge=0, description="Scheduled faults per device and day, on average.")
    duty_slot_us: DurationUs = Field(
        default=14_400_000_000, ge=240_000_000, description="Set points change about this often."
    )
    has_vibration: bool = Field(default=True, description="Whether machines with a shaft deliver vibration features.")
    gateway: str = Field(default="mqtt://127.0.0.1:1883", description="Where `headwater simulate` sends frames.")
    duration_us: DurationUs = Field(default=60_000_000, ge=0, description="How long `headwater simulate` offers load.")
    frames_every_us: DurationUs = Field(default=10_000_000, ge=1_000_000, description="Event time covered by a frame.")
    speed: float = Field(default=1.0, gt=0, description="Event time that passes per second of wall time.")
    is_paced: bool = Field(default=True, description="False offers the same frames as fast as they are taken.")
    connections: int = Field(default=0, ge=0, description="MQTT connections that devices share; 0: one per device.")
    unacked_max: int = Field(default=64, ge=1, description="Frames per device that may wait for their durable ack.")
    resend_after_us: DurationUs = Field(
        default=30_000_000,
        ge=100_000,
        description="A frame without durable ack is sent again after this time, then after twice as long …",
    )
    drain_us: DurationUs = Field(
        default=30_000_000, ge=0, description="How long to wait at the end for the durable acks that are out."
    )
    ledger: str = Field(default="", description="Folder for the ledger that the store is checked against; empty: none.")
    truth: str = Field(default="", description="File for the ground truth, out of the pipeline's reach; empty: none.")

"""Which shards a processor takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_processor.settings import ProcessorSettings
from cloud_processor.shards import parse_shards
from headwater.errors import SettingsError
from headwater.settings import load_settings


@given(st.sets(st.integers(0, 30), min_size=1))
def test_a_list_of_shards_gives_them_back_rising(shards: set[int]) -> None:
    assert parse_shards(",".join(map(str, shards)), 31) == tuple(sorted(shards))
    assert ProcessorSettings(partitions=31, shards=list(shards)).own_shards == tuple(sorted(shards))


@pytest.mark.parametrize("text", ["12", "0-12", "5-3", "a", "1,", "-3", "1-", "1 2", "١", "0-1-2", "1e1"])
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shards = "):
        parse_shards(text, 12)


@pytest.mark.parametrize("written", ["shards = 3", 'shards = "3"', "shards = [3]"])
def test_settings_take_a_number_a_text_and_a_list(written: str) -> None:
    tables = load_settings({"processor": ProcessorSettings}, text=f"[processor]\n{written}\n")
    assert tables["processor"].own_shards == (3,)  # type: ignore[attr-defined]


def test_settings_refuse_a_shard_beyond_the_partitions() -> None:
    with pytest.raises(SettingsError, match="there are shards 0 to 3, and 4 is not of them"):
        load_settings({"processor": ProcessorSettings}, text='[processor]\npartitions = 4\nshards = "0-2,4"\n')

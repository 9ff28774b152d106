import numpy as np

from simulators.noise import as_keys, draw, key_of, smooth, white


def test_white_noise_has_the_moments_of_a_normal_distribution():
    noise = white(as_keys(key_of(1, "a")), np.arange(400_000))[0]
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1.0) < 0.01
    assert abs(np.mean(noise**3)) < 0.03
    assert abs(np.mean(noise**4) - 3.0) < 0.1
    assert 4.0 < np.abs(noise).max() < 6.5


def test_streams_of_different_keys_are_independent():
    noise = white(as_keys(key_of(1, "a"), key_of(1, "b"), key_of(2, "a")), np.arange(100_000))
    correlation = np.corrcoef(noise)
    assert np.abs(correlation - np.eye(3)).max() < 0.015


def test_smooth_noise_keeps_its_variance_and_forgets_itself_after_two_periods():
    noise = smooth(as_keys(key_of(3, "slow")), 0, 400_000, 20)[0]
    assert abs(noise.std() - 1.0) < 0.03
    assert np.corrcoef(noise[:-2], noise[2:])[0, 1] > 0.9
    assert abs(np.corrcoef(noise[:-40], noise[40:])[0, 1]) < 0.03


def test_smooth_noise_before_the_epoch_of_its_counters_joins_on():
    keys = as_keys(5)
    assert (smooth(keys, -30, 30, 8)[0][30:] == smooth(keys, 0, 30, 8)[0]).all()


def test_draws_are_uniform():
    numbers = np.array([draw(9, i) for i in range(20_000)])
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(np.mean(numbers < 0.1) - 0.1) < 0.01

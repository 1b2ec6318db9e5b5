"""Replay, n-step returns and noise, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ddpg_robot.learn.config import resolve_agent
from ddpg_robot.learn.noise import GaussianNoise, OrnsteinUhlenbeckNoise, WarmupActions, make_noise
from ddpg_robot.learn.replay import NStepWindow, Replay


def obs(value: float) -> np.ndarray:
    return np.array([value], dtype=np.float32)


def run_episode(n: int, rewards: list[float], terminated: bool, gamma: float = 0.5) -> list[tuple[float, ...]]:
    """Rows (state, reward, discount, next state) of an episode whose states are 0, 1, 2, ... and actions state / 10."""
    replay = Replay(100, 1, 1, 1)
    window = NStepWindow(n, gamma)
    for i, reward in enumerate(rewards):
        last = i == len(rewards) - 1
        window.add(replay, obs(i), obs(i / 10), reward, obs(i + 1), last and terminated, last and not terminated)
    rows = replay.slice(0, replay.total)
    np.testing.assert_allclose(rows[:, 1], rows[:, 0] / 10, rtol=1e-6)
    return [tuple(row) for row in rows[:, [0, 2, 3, 4]].tolist()]


def test_one_step_transitions_end_without_bootstrap_after_termination():
    assert run_episode(1, [1, 2, 4], terminated=True) == [(0, 1, 0.5, 1), (1, 2, 0.5, 2), (2, 4, 0, 3)]


def test_one_step_transitions_bootstrap_through_time_limits():
    assert run_episode(1, [1, 2, 4], terminated=False) == [(0, 1, 0.5, 1), (1, 2, 0.5, 2), (2, 4, 0.5, 3)]


def test_three_step_returns_shorten_at_a_termination():
    # R0 = 1 + 2/2 + 4/4, bootstrapped with 1/8 from state 3; the last three states see the end.
    expected = [(0, 3, 0.125, 3), (1, 2 + 2 + 2, 0, 4), (2, 4 + 4, 0, 4), (3, 8, 0, 4)]
    assert run_episode(3, [1, 2, 4, 8], terminated=True) == expected


def test_three_step_returns_bootstrap_with_fewer_steps_at_a_time_limit():
    expected = [(0, 3, 0.125, 3), (1, 6, 0.125, 4), (2, 8, 0.25, 4), (3, 8, 0.5, 4)]
    assert run_episode(3, [1, 2, 4, 8], terminated=False) == expected


def test_episode_shorter_than_n_gives_one_transition_per_step():
    assert run_episode(5, [1, 2], terminated=False) == [(0, 2, 0.25, 2), (1, 2, 0.5, 2)]


def test_episodes_do_not_leak_into_one_another():
    replay, window = Replay(10, 1, 1, 1), NStepWindow(3, 0.5)
    window.add(replay, obs(0), obs(0), 1.0, obs(1), terminated=True, truncated=False)
    window.add(replay, obs(5), obs(0), 2.0, obs(6), terminated=False, truncated=True)
    assert replay.slice(0, 2)[:, 2].tolist() == [1.0, 2.0]


def filled(capacity: int, count: int) -> Replay:
    replay = Replay(capacity, 1, 1, batch_size=64)
    for i in range(count):
        replay.add(obs(i), obs(0), 0.0, 0.0, obs(i))
    return replay


def test_full_replay_overwrites_the_oldest():
    replay = filled(10, 23)
    assert len(replay) == 10
    assert sorted(replay.rows[:, 0]) == list(range(13, 23))
    assert replay.slice(13, 23)[:, 0].tolist() == list(range(13, 23))


def test_samples_are_uniform_over_what_is_there():
    replay = filled(10, 4)
    rng = np.random.default_rng(0)
    draws = np.concatenate([replay.sample(rng).observation.numpy().ravel().copy() for _ in range(500)])
    counts = np.bincount(draws.astype(int), minlength=4)
    assert len(counts) == 4
    np.testing.assert_allclose(counts / len(draws), 0.25, atol=0.01)


@pytest.mark.parametrize(("capacity", "count", "oldest"), [(1000, 600, 0), (1000, 2300, 1300)])
def test_samples_by_recency_have_ages_that_are_a_power_of_a_uniform_number(capacity, count, oldest):
    replay = filled(capacity, count)
    rng = np.random.default_rng(0)
    draws = [replay.sample(rng, recency=3.0).observation.numpy().ravel().copy() for _ in range(2000)]
    ages = (count - 1 - np.concatenate(draws)) / (count - oldest)
    assert ages.min() == 0.0 and 0.98 < ages.max() < 1.0
    for part in (0.01, 0.1, 0.5):  # P(u^3 <= part) = part^(1/3)
        np.testing.assert_allclose(np.mean(ages < part), part ** (1 / 3), atol=0.01)


def test_recency_never_reaches_beyond_the_oldest_transition():
    class Highest:
        """A generator that draws the largest number below 1, whose product with the length rounds up to the length."""

        def random(self, count):
            return np.full(count, np.nextafter(1.0, 0.0))

    replay = filled(10, 3)
    assert set(replay.sample(Highest(), recency=1e-3).observation.numpy().ravel()) == {0.0}


def test_replay_restored_in_pieces_is_the_same():
    replay = filled(10, 23)
    other = Replay(10, 1, 1, 1)
    other.restore(13, replay.slice(13, 17))
    other.restore(17, replay.slice(17, 23))
    assert other.total == 23
    np.testing.assert_array_equal(other.rows, replay.rows)


def test_ornstein_uhlenbeck_noise_has_the_stationary_deviation_and_correlation_of_the_paper():
    theta, sigma = 0.15, 0.2
    noise = OrnsteinUhlenbeckNoise(200, theta, np.random.default_rng(0))
    path = np.array([noise.sample(sigma).copy() for _ in range(3000)])[200:]  # past the transient from zero
    assert path.mean() == pytest.approx(0.0, abs=0.01)
    assert path.std() == pytest.approx(sigma / np.sqrt(2 * theta - theta**2), rel=0.02)
    correlation = (path[1:] * path[:-1]).mean() / (path**2).mean()
    assert correlation == pytest.approx(1 - theta, rel=0.01)
    noise.reset()
    first = np.array([noise.sample(sigma)])
    assert first.std() == pytest.approx(sigma, rel=0.2)  # starts from zero again


def test_gaussian_noise_is_independent_from_step_to_step():
    noise = GaussianNoise(500, np.random.default_rng(0))
    path = np.array([noise.sample(0.3) for _ in range(400)])
    assert path.std() == pytest.approx(0.3, rel=0.02)
    assert (path[1:] * path[:-1]).mean() == pytest.approx(0.0, abs=0.002)


@pytest.mark.parametrize(("episode", "repeats"), [(0, 0.0), (1, 0.9)])
def test_warmup_actions_are_uniform_and_held_in_every_other_episode(episode, repeats):
    warmup = WarmupActions(2, 0.9, np.random.default_rng(0))
    warmup.reset(episode)
    path = np.array([warmup.sample() for _ in range(20_000)])
    assert np.abs(path).max() <= 1.0
    assert path.std() == pytest.approx(np.sqrt(1 / 3), rel=0.05)
    assert (path[1:] == path[:-1]).all(axis=1).mean() == pytest.approx(repeats, abs=0.01)


def test_settings_choose_the_noise():
    rng = np.random.default_rng(0)
    assert isinstance(make_noise(resolve_agent("ddpg", {"noise": "gaussian"}), 2, rng), GaussianNoise)
    assert isinstance(make_noise(resolve_agent("paper"), 2, rng), OrnsteinUhlenbeckNoise)

from __future__ import annotations

from ddpg_robot.learn.tasks import LONGEST_EPISODE
from ddpg_robot.learn.watch import SHORT_EPISODES, Watch


def test_no_q_is_beyond_the_largest_reward_summed_for_ever():
    watch = Watch(gamma=0.9)
    watch.reward(-2.0)
    assert watch.values(-20.0) is None
    assert "its mean 20.1 is beyond 20" in watch.values(20.1)


def test_each_kind_of_trouble_is_named_once_and_a_resumed_run_remembers_it():
    watch = Watch(gamma=0.9)
    assert "saturated" in watch.slope(1e-4)
    assert watch.slope(1e-4) is None
    resumed = Watch(gamma=0.9)
    resumed.load_state(watch.state())
    assert resumed.slope(1e-4) is None


def test_an_episode_that_had_to_be_cut_is_named():
    watch = Watch(gamma=0.9)
    assert watch.episode(LONGEST_EPISODE - 1) is None
    assert "max_episode_steps" in watch.episode(LONGEST_EPISODE)


def test_episodes_of_one_step_are_named_unless_a_longer_one_came_before():
    watch = Watch(gamma=0.9)
    assert [watch.episode(1) for _ in range(SHORT_EPISODES - 1)] == [None] * (SHORT_EPISODES - 1)
    assert "one step each" in watch.episode(1)
    other = Watch(gamma=0.9)
    other.episode(5)
    assert all(other.episode(1) is None for _ in range(SHORT_EPISODES))

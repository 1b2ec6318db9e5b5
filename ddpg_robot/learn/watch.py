"""Early warnings of a training that goes wrong, each with what to try."""

from __future__ import annotations

from typing import Any

from ddpg_robot.learn.tasks import LONGEST_EPISODE

FLAT_SLOPE = 2e-3
"""Mean slope of the actor's tanh below which its gradient is as good as gone (the action is within 0.1 % of its bounds)."""
SHORT_EPISODES = 50
"""So many first episodes of a single step are worth a word."""


class Watch:
    """Notices each kind of trouble once per run.

    Args:
        gamma: discount per step.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._largest_reward = 0.0
        self._single_steps = 0
        self._given: set[str] = set()

    def reward(self, reward: float) -> None:
        """Takes one reward."""
        self._largest_reward = max(self._largest_reward, abs(reward))

    def episode(self, length: int) -> str | None:
        """Takes the length of an episode when it ends."""
        if length >= LONGEST_EPISODE:
            text = f"warning: an episode was cut at {length:,} steps, as by a time limit. If that is too late or too soon, "
            return self._once("endless", text + "register the task with max_episode_steps")
        self._single_steps = self._single_steps + 1 if length == 1 else -SHORT_EPISODES
        if self._single_steps >= SHORT_EPISODES:
            text = f"warning: {self._single_steps} episodes of one step each. Does the task end where it should go on?"
            return self._once("single steps", text)
        return None

    def values(self, q_mean: float) -> str | None:
        """Takes the mean of Q over recent batches: no value can be beyond max|r| / (1 - gamma)."""
        if self._gamma >= 1.0:
            return None
        bound = self._largest_reward / (1.0 - self._gamma)
        if abs(q_mean) <= bound:
            return None
        text = f"warning: Q diverges: its mean {q_mean:.3g} is beyond {bound:.3g}, the largest reward / (1 - gamma). "
        return self._once("Q", text + "Try a smaller critic_lr or tau, or critic_layer_norm=true")

    def slope(self, slope: float | None) -> str | None:
        """Takes the mean slope of the actor's tanh over a batch, from 0 (saturated) to 1; None without an actor."""
        if slope is None or slope >= FLAT_SLOPE:
            return None
        text = f"warning: the actor is saturated: the mean slope of its tanh is {slope:.1g}, so it hardly learns. "
        return self._once(
            "slope", text + "Try a larger saturation_penalty, a smaller actor_lr, or normalize_observations"
        )

    def state(self) -> dict[str, Any]:
        """Everything, as JSON data."""
        given = sorted(self._given)
        return {"largest_reward": self._largest_reward, "single_steps": self._single_steps, "given": given}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` gave."""
        self._largest_reward, self._single_steps = state["largest_reward"], state["single_steps"]
        self._given = set(state["given"])

    def _once(self, kind: str, text: str) -> str | None:
        if kind in self._given:
            return None
        self._given.add(kind)
        return text

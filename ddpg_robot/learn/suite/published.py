"""What others have published for the tasks of suite `gym`: mean return over seeds at 1M steps, Gym's v1 to v4."""

from __future__ import annotations

from typing import Any, NamedTuple


class Figure(NamedTuple):
    """One published mean return."""

    value: float
    source: str
    """Where it comes from, and the version of Gym's task; empty where the column says it."""


def _from(source: str, **values: float) -> dict[str, Figure]:
    return {f"{task}-v5": Figure(value, source) for task, value in values.items()}


PUBLISHED: dict[str, dict[str, Figure]] = {
    "DDPG, Tianshou (v3)": _from(
        "", HalfCheetah=11719, Hopper=2197, Walker2d=1401, Ant=990, Swimmer=144, Humanoid=177, Reacher=-3.3
    ),
    "DDPG, best other": {
        **_from("XuanCe", Hopper=3435, Ant=1473),
        **_from("TD3 paper, v1", Walker2d=3098),
        **_from("CleanRL, v4", Humanoid=1700),
        **_from("CleanRL, v2", Pusher=-39),
    },
    "TD3, Tianshou (v3)": _from("", HalfCheetah=10201, Hopper=3472, Walker2d=3982, Ant=5116, Humanoid=5190),
    "TD7 or MR.Q (v4)": {
        **_from("TD7", HalfCheetah=17434, Hopper=3512, Walker2d=6097, Ant=8509),
        **_from("MR.Q", Humanoid=10224),
    },
}
"""Column of the table -> task -> figure."""


def published(result: dict[str, Any]) -> dict[str, dict[str, Figure]]:
    """The figures that stand beside a benchmark: none where its runs are made much shorter, as in suite `ladder`."""
    return PUBLISHED if result["suite"] == "gym" else {}


NOTE = (
    "Published figures are for 1M steps of older versions of the tasks (Gym v1 to v4). Tianshou's "
    "(github.com/thu-ml/tianshou, examples/mujoco) are the highest mean of 10 seeds at any step, not the one at the end."
)

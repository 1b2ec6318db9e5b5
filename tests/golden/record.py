"""Records state -> terms pairs of each task: ``python tests/golden/record.py [TASK]``. Only when the observation shall change."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np

import ddpg_robot_sim


def main() -> None:
    for task in sys.argv[1:] or ddpg_robot_sim.TASKS:
        pairs = json.dumps(recorded(task, np.random.default_rng(7)))
        (Path(__file__).parent / f"{task}.json").write_text(pairs)


def recorded(task: str, rng: np.random.Generator) -> list[dict[str, list[float]]]:
    env = gymnasium.make(ddpg_robot_sim.TASKS[task]).unwrapped
    previous_is_observed = any(term.name == "previous_effort" for term in env.interface.observation.terms)
    pairs = []
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(5):
            previous_effort = env.effort.copy()
            terms = env.step(rng.uniform(-0.3, 0.3, env.model.nu))[0]
            base = {"orientation_wxyz": env.state.orientation_wxyz, "angular_velocity": env.state.angular_velocity}
            base["stamp"] = np.float64(env.state.stamp)
            pair = {
                "position": env.state.position,
                "velocity": env.state.velocity,
                **(base if env.state.floating_base else {}),
                **({"previous_effort": previous_effort} if previous_is_observed else {}),
                "last_effort": env.effort,
                "command": env.command.values,
                "terms": terms,
            }
            pairs.append({name: values.tolist() for name, values in pair.items()})
    return pairs


if __name__ == "__main__":
    main()

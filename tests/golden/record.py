"""Records state -> terms pairs of the arm: ``python tests/golden/record.py``. Only when the observation is meant to change."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np

import ddpg_robot_sim

GOLDEN = Path(__file__).parent / "arm_reach.json"


def main() -> None:
    env = gymnasium.make(ddpg_robot_sim.TASKS["arm_reach"]).unwrapped
    rng = np.random.default_rng(7)
    pairs = []
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(5):
            terms = env.step(rng.uniform(-0.3, 0.3, 7))[0]
            pairs.append(
                {
                    "position": env.state.position.tolist(),
                    "velocity": env.state.velocity.tolist(),
                    "last_effort": env.effort.tolist(),
                    "command": env.command.values.tolist(),
                    "terms": terms.tolist(),
                }
            )
    GOLDEN.write_text(json.dumps(pairs))


if __name__ == "__main__":
    main()

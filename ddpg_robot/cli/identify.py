"""`ddpg-robot identify`: a recording, or a bag, against a task's model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddpg_robot.cli.arguments import Flag, Pairs
from ddpg_robot.cli.sources import need, task_id
from ddpg_robot.cli.terminal import key_values
from ddpg_robot.files import write_json, write_whole


@dataclass(frozen=True)
class Identify:
    """Fit masses, damping, friction, armature, motor strength and delay of a task's robot to a recording of a real one.

    Writes identified.json, report.html and randomization.json, a setting around what was found: --task-option
    randomization=OUT/randomization.json. No ROS needed.
    """

    bag: Annotated[Positional[Path], arg(metavar="BAG")]
    """Recording of `deploy --record` (.mcap), or a rosbag2 bag with joint_states and effort_controller/commands."""
    task: Annotated[str, arg(metavar="TASK")] = "arm_reach"
    """Task whose model is fitted; its robot has a fixed base."""
    task_option: Pairs = ()
    """Keyword of the task, repeatable: --task-option gravity_compensated=false."""
    prior: str = "strong"
    """How far the robot may be from the model, where the recording does not tell: a preset of randomisation, or a file."""
    preset: str = "default"
    """What the written setting has of all that is not fitted: sensors, pushes."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("runs/identified")
    """Directory of the results."""
    namespace: str = ""
    """Plain bags: ROS namespace of the robot, when there are several."""
    json: Flag = False
    """Print JSON instead of a table."""

    def __call__(self) -> int:
        """Identifies; returns the exit code."""
        need("sim", "fit", "bag")
        from ddpg_robot_sim.identification.identify import as_json, identify, randomization_of
        from ddpg_robot_sim.identification.report import as_page, as_table
        from ddpg_robot_sim.randomization import PRESETS, ranges_of

        ranges_of({"preset": self.preset}, PRESETS)
        kwargs = key_values("--task-option", self.task_option)
        found = identify(self.bag, task_id(self.task), kwargs, self.prior, self.namespace, _say)
        write_json(self.out / "identified.json", as_json(found))
        write_json(self.out / "randomization.json", randomization_of(found.fit, self.preset))
        write_whole(self.out / "report.html", as_page(found))
        print(json.dumps(as_json(found), indent=2) if self.json else as_table(found))
        if not self.json:
            print(f"Wrote {self.out}. Next: --task-option randomization={self.out / 'randomization.json'}")
        return 0


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)

"""Sub-command that writes a task file for a robot of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddpg_robot.cli.arguments import Flag, OutFile
from ddpg_robot.cli.sources import need
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.files import write_whole


@dataclass(frozen=True)
class NewRobot:
    """Check a robot's model and write a commented task file, which `train` takes as its task."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """MJCF or URDF file of an arm."""
    end_effector: Annotated[str, arg(metavar="NAME")]
    """Site or body that is to reach."""
    out: OutFile = None
    """Task file to write; must not exist. Default: the model's name with .toml, in this directory."""
    actuators: Literal["model", "motor"] = "model"
    """`model`: the model's own torque motors; `motor`: torque motors take the place of whatever it has."""
    effort_limit: Annotated[float | None, arg(metavar="N·m")] = None
    """Of joints for which the model says none."""
    velocity_limit: Annotated[float | None, arg(metavar="RAD/S")] = None
    """Of joints for which the model says none; MJCF has no field for it. Default: 2 rad/s."""
    position_limit: Annotated[float | None, arg(metavar="RAD")] = None
    """Of joints for which the model says none, plus and minus."""
    home: tuple[float, ...] = ()
    """Pose that episodes begin around, rad. Default: the model's first keyframe, or a dexterous pose."""
    carries_weight: Flag = False
    """The robot's firmware does not compensate gravity: the policy has to."""

    def __call__(self) -> int:
        """Writes the file; returns the exit code."""
        need("sim")
        from ddpg_robot_sim.new_robot import Given, new_robot
        from ddpg_robot_sim.robot_reach import RobotReach
        from ddpg_robot_sim.robot_text import robot_text

        out = self.out or Path(f"{self.model.stem}.toml")
        if out.suffix != ".toml":
            raise ConfigError(mismatch("--out", str(out), "a file with suffix .toml"))
        if out.exists():
            raise ConfigError(mismatch("--out", f"{out} exists", "a new file", hint="Choose another one, or delete it"))
        given = Given(
            self.effort_limit,
            self.velocity_limit,
            self.position_limit,
            replace_actuators=self.actuators == "motor",
            gravity_compensated=not self.carries_weight,
            home=self.home or None,
        )
        file, notes = new_robot(self.model.resolve(), self.end_effector, given)
        RobotReach(file.content()).close()  # what it refuses, `train` would
        write_whole(out, robot_text(file, notes, out))
        for note in notes:
            print(f"note: {note}")
        print(f"Wrote {out}: {len(file.joints.name)} joints to '{file.end_effector}'. Look at its limits.")
        print(f"Next: ddpg-robot train {out} --steps 30000")
        return 0

"""Sub-commands of online learning: the learner beside a robot, and what became of its policies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from ddpg_robot.cli.arguments import Flag, OutDir, PolicyName, RunPath
from ddpg_robot.cli.sources import import_tasks, need, policy_path
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.policy import read_manifest


@dataclass(frozen=True)
class Learner:
    """Learn beside a robot whose policy node runs with `online`, in a process of its own. Ctrl-C saves; again: goes on."""

    run: RunPath
    """Run directory that the agent, and simulation's share of each minibatch, come from. Needs its replay."""
    policy: PolicyName
    """Policy file that the robot began with: what `export` made of the run."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("runs/online")
    """Checkpoints and versions; what is there goes on."""
    reward: Literal["auto", "task", "topic"] = "auto"
    """The task's own reward, of what the robot measured; or what comes over the topic `reward`. `auto`: the task's, where it has
    one (an arm), else the topic's (legs)."""
    recordings: OutDir = None
    """Where a robot on this machine records: what was missed is learnt from there."""
    robot_share: float = 0.5
    """Share of the robot's own transitions in a minibatch; the rest is simulation's."""
    ratio: float = 1.0
    """Updates for each transition of the robot."""
    progress: float = 0.7
    """Step sizes of the updates: those after this part of the training."""
    every: int = 1500
    """Transitions between two candidates."""
    largest_step: float = 0.1
    """Gate: largest distance of a candidate's actions from those of the policy that drives."""
    return_margin: float = 1.0
    """Probation: how much lower a candidate's mean reward may be, in deviations between episodes."""
    gate: bool = True
    """`--no-gate` sends whatever is finite: for comparisons, in simulation."""
    rate: Annotated[float | None, arg(metavar="HZ")] = None
    """Loop rate of the robot, Hz. Default: that of the training."""
    save_every: Annotated[float, arg(metavar="S")] = 30.0
    """Time between checkpoints, s."""
    namespace: str = ""
    """ROS namespace of the deployment."""
    threads: int = 1
    """CPU threads of torch."""
    nice: int = 10
    """How far it stands back behind other processes, 0 to 19: the robot's loop may be on the same machine."""

    def command_line(self, namespace: str) -> tuple[str, ...]:
        """The same learner in a process of its own, behind the interpreter's name.

        Raises:
            ConfigError: the policy is for another robot than the run's.
        """
        self._require_same_robot()  # before anything moves
        rate = () if self.rate is None else ("--rate", str(self.rate))
        recordings = () if self.recordings is None else ("--recordings", str(self.recordings))
        out = ("--out", str(self.out), "--reward", self.reward)
        parts = ("learner", str(self.run), self.policy, *out, *recordings, *rate)
        return ("-m", "ddpg_robot.cli", *parts, *(("--namespace", namespace) if namespace else ()))

    def __call__(self) -> int:
        """Learns until it is told to stop; returns the exit code."""
        need("train", "sim", "export", "ros", "bag")
        import torch

        from ddpg_robot.learn.online import OnlineSettings
        from ddpg_robot.policy import OnnxPolicy
        from ddpg_robot_export.candidates import GateSettings
        from ddpg_robot_export.robot_learner import RobotLearner
        from ddpg_robot_ros.learner_node import run_learner
        from ddpg_robot_ros.processes import ros_arguments

        self._require_same_robot()
        os.nice(self.nice)
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)
        online = OnlineSettings(
            robot_share=self.robot_share,
            updates_per_transition=self.ratio,
            progress=self.progress,
            largest_step=self.largest_step,
        )
        gate = GateSettings(every=self.every, gated=self.gate, return_margin=self.return_margin)
        policy = OnnxPolicy.open(policy_path(self.policy))
        reward = None if self.reward == "topic" else task_reward(self.run, required=self.reward == "task")
        learner = RobotLearner(self.run, policy, self.out, reward, online, gate, self.rate)
        arguments = ["learner_node", *ros_arguments(namespace=self.namespace)]
        code: int = run_learner(learner, self.save_every, self.recordings, arguments)
        return code

    def _require_same_robot(self) -> None:
        from ddpg_robot.learn.rundir import RunDirectory

        interface = RunDirectory(self.run).task()["interface"]
        if interface is None:
            return  # the learner compares what their actors do
        found = [joint.name for joint in read_manifest(policy_path(self.policy)).robot.joints]
        own = [joint["name"] for joint in interface["robot"]["joints"]]
        if found != own:
            expected = f"those of run '{self.run}', {own}"
            raise ConfigError(mismatch(f"joints of policy '{self.policy}'", found, expected))


@dataclass(frozen=True)
class Versions:
    """List the policies that were learnt online, and what became of each."""

    directories: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR ...")] = (Path("runs/online/versions"),)
    """Directories of versions: the learner's, and `versions` beside the robot's recordings."""
    json: Flag = False
    """Print JSON, every event, instead of a table."""

    def __call__(self) -> int:
        """Prints them; returns the exit code."""
        from ddpg_robot.versions import EVENTS, read_events

        events = read_events(self.directories)
        if self.json:
            print(json.dumps([asdict(event) for event in events], indent=1))
            return 0
        for event in events:
            at = datetime.fromtimestamp(event.time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
            numbers = {key: f"{one:.3g}" if isinstance(one, float) else one for key, one in event.figures.items()}
            figures = " ".join(f"{key}={one}" for key, one in numbers.items())
            print(f"{at}  {event.version}  {event.event:9}  {event.detail or EVENTS[event.event]}  {figures}".rstrip())
        return 0


def task_reward(run: Path, required: bool) -> Callable[[Any], Any] | None:
    """The reward of a run's task, as a function of a robot's transitions; None where it has none of what a robot measures.

    Raises:
        ConfigError: the task has none, and it is required.
    """
    import gymnasium

    from ddpg_robot.learn.rundir import RunDirectory

    import_tasks()
    task = RunDirectory(run).task()
    made: Any = gymnasium.make(task["task"], **task["task_kwargs"]).unwrapped
    reward: Callable[[Any], Any] | None = getattr(made, "reward_of", None)
    if reward is None and required:
        hint = "Use --reward topic"
        raise ConfigError(mismatch(f"reward of task '{task['task']}' for a robot", "none", "reward_of", hint=hint))
    return reward

"""Every sub-command of `ddpg-robot`: a dataclass of its options, and what it does when called.

Rooms are imported inside the sub-commands, so that `--help` is instant and a bare install can use what it has.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union

from tyro.conf import Positional, arg, subcommand

from ddpg_robot.cli.arguments import Flag, OutDir, OutFile, Pairs, PolicyName, RunPath
from ddpg_robot.cli.benchmarks import Benchmark
from ddpg_robot.cli.evaluate import Evaluate
from ddpg_robot.cli.identify import Identify
from ddpg_robot.cli.live import Doctor, Top
from ddpg_robot.cli.new_robot import NewRobot
from ddpg_robot.cli.online import Learner, Versions
from ddpg_robot.cli.replay import Replay
from ddpg_robot.cli.sources import (
    import_tasks,
    is_robot_file,
    is_robot_task,
    left_out,
    model_for,
    need,
    policy_path,
    task_of,
)
from ddpg_robot.cli.terminal import key_values
from ddpg_robot.cli.transfer import Transfer


@dataclass(frozen=True)
class Train:
    """Train an agent on a task, with a live progress line and TensorBoard logs. Ctrl-C writes a checkpoint first."""

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """A task of this package (arm_reach, quadruped_walk), the task file of a robot of your own (my_arm.toml), or any Gymnasium
    id with Box spaces (Pendulum-v1, HalfCheetah-v5)."""
    algorithm: str = "ddpg"
    """`ddpg`, or one of the methods that led to it (docs/why-ddpg.md): stochastic_ac, deterministic_ac, off_policy_ac,
    dqn, naf, q_sampling, q_cem, q_gradient."""
    preset: str = "ddpg"
    """DDPG's hyperparameters: `ddpg`, `max` (learnt representations), or `paper` (Lillicrap et al. 2016)."""
    steps: int = 100_000
    """Environment steps."""
    envs: int = 1
    """Environments that take turns; with --set updates_per_step=0.125 eight of them share an update."""
    seed: int = 0
    """Seed of everything random."""
    out: OutDir = None
    """Run directory; must not exist unless --resume. Default: runs/TASK-seedN, with the name of a baseline before seedN."""
    resume: Flag = False
    """Go on from the last checkpoint in the run directory."""
    control_mode: Literal["effort", "pd"] | None = None
    """Robot tasks: the network gives torque (`effort`) or joint targets (`pd`)."""
    task_option: Pairs = ()
    """Keyword of the task, repeatable: --task-option gravity_compensated=false --task-option randomization=default."""
    whole_observation: Flag = False
    """Keep what a Gymnasium task observes and no robot measures (contact forces): for comparing, `export` refuses it."""
    set: Pairs = ()
    """Hyperparameter that differs from the preset, repeatable: --set gamma=0.98 --set actor_hidden=[400,300]."""
    threads: int = 1
    """CPU threads of torch; small networks run best with one."""
    eval_every: int = 5000
    """Environment steps between evaluations."""
    eval_episodes: int = 20
    """Episodes of an evaluation during training."""
    final_eval_episodes: int = 50
    """Episodes of the last evaluation, which chooses between the last actor and the best so far."""
    discard_replay: Flag = False
    """Delete the replay when the run is finished; it takes most of the disk."""

    def __call__(self) -> int:
        """Trains; returns the exit code."""
        need("train", *(["sim"] if is_robot_task(self.task) else []))
        from ddpg_robot.learn.config import TrainConfig
        from ddpg_robot.learn.trainer import train
        from ddpg_robot_sim.measurable import named

        task, own = task_of(self.task)
        kwargs = {**({} if self.whole_observation else left_out(task)), **own}
        kwargs |= key_values("--task-option", self.task_option)
        if without := named(kwargs):
            left = f"without {without}, which no robot measures (--whole-observation keeps them)"
            print(f"note: {self.task} {left}", file=sys.stderr)
        if self.control_mode is not None:
            kwargs["control_mode"] = self.control_mode
        baseline = "" if self.algorithm == "ddpg" else f"-{self.algorithm}"
        name = Path(self.task).stem if is_robot_file(self.task) else Path(self.task).name
        out = self.out or Path("runs") / f"{name}{baseline}-seed{self.seed}"
        run = train(
            TrainConfig(
                task=task,
                task_kwargs=kwargs,
                algorithm=self.algorithm,
                preset=self.preset,
                steps=self.steps,
                envs=self.envs,
                seed=self.seed,
                out=out,
                resume=self.resume,
                overrides=key_values("--set", self.set),
                threads=self.threads,
                eval_every=self.eval_every,
                eval_episodes=self.eval_episodes,
                final_eval_episodes=self.final_eval_episodes,
                keep_replay=not self.discard_replay,
            )
        )
        print(f"Trained. Next: ddpg-robot evaluate {run}, ddpg-robot export {run} --out policy.onnx")
        return 0


@dataclass(frozen=True)
class Export:
    """Export a run's actor to one self-describing ONNX file; refuses unless it reproduces the actor (parity gate)."""

    run: RunPath
    """Run directory."""
    out: Annotated[Path, arg(metavar="FILE")]
    """Policy file to write."""
    name: Annotated[str | None, arg(metavar="NAME")] = None
    """Name in the manifest. Default: the file's."""
    samples: int = 10_000
    """Observations on which the graph must agree with torch."""
    seed: int = 0
    """Seed of the samples."""
    exploration_limit: float = 0.1
    """Online learning: largest exploration torque, as a share of each joint's effort limit; 0 forbids it for ever."""

    def __call__(self) -> int:
        """Exports; returns the exit code."""
        need("export", "sim")
        import_tasks()
        from ddpg_robot_export.exporter import export_run
        from ddpg_robot_sim.gymnasium_robot import robot_of

        manifest = export_run(self.run, self.out, self.name, self.samples, self.seed, self.exploration_limit, robot_of)
        error, samples = manifest.parity.max_abs_error, manifest.parity.samples
        print(f"Wrote {self.out}. Parity: {error:.1e} of the output range on {samples} samples.")
        print(f"Next: ddpg-robot evaluate {self.out}, ddpg-robot deploy {self.out}")
        return 0


@dataclass(frozen=True)
class Inspect:
    """Show what a policy file says of itself: robot, control, observation, training, parity."""

    file: PolicyName
    """Policy file, or the name of a shipped policy."""
    json: Flag = False
    """Print the whole manifest as JSON."""

    def __call__(self) -> int:
        """Prints the manifest; returns the exit code."""
        from ddpg_robot_export.inspection import format_policy, inspect_policy

        found = inspect_policy(policy_path(self.file))
        print(json.dumps(found, indent=2) if self.json else format_policy(found))
        return 0


@dataclass(frozen=True)
class Verify:
    """Check a policy file as a robot would before it trusts one: schema, hash, sizes, finite weights and outputs."""

    file: PolicyName
    """Policy file, or the name of a shipped policy."""

    def __call__(self) -> int:
        """Verifies; returns the exit code."""
        from ddpg_robot_export.inspection import format_verification, verify_policy

        print(format_verification(verify_policy(policy_path(self.file))))
        return 0


@dataclass(frozen=True)
class Deploy:
    """Run a policy over ROS 2 without a ROS installation: plant, effort guard and policy node as three processes."""

    file: PolicyName = "arm_reach"
    """Policy file, or the name of a shipped policy."""
    plant: bool = True
    """Start the simulated robot; not when the real one is on the network."""
    robot: Annotated[str | None, arg(metavar="FILE")] = None
    """Task file of a robot of your own (my_arm.toml), for the simulated one. Default: the shipped model of the policy's."""
    guard: bool = True
    """Start the effort guard, which damps when the policy process dies."""
    rate: Annotated[float | None, arg(metavar="HZ")] = None
    """Loop rate, Hz; a whole multiple of the policy's. Default: the rate of its training."""
    namespace: str = ""
    """ROS namespace of all nodes."""
    params_file: OutFile = None
    """ROS parameter file (YAML)."""
    duration: Annotated[float | None, arg(metavar="S")] = None
    """Stop after this many seconds. Default: run until Ctrl-C."""
    shadow: Flag = False
    """Command nobody: publish on policy_node/shadow_effort what would be commanded. There is no guard then."""
    record: OutDir = None
    """Record every tick into a file in this directory; `ddpg-robot replay` runs it again."""
    online: Annotated[Path | None, arg(metavar="RUN")] = None
    """EXPLORES, and learns on from this run directory, whose export FILE must be. Recordings, versions and checkpoints go to
    --record (default: runs/online); the same again goes on. docs/online.md says what it does and does not promise."""

    def __call__(self) -> int:
        """Deploys until it is told to stop; returns the exit code."""
        need("ros", *(["sim"] if self.plant else []), *(["bag"] if self.record or self.online else []))
        policy = policy_path(self.file)
        record = self.record
        learner: tuple[str, ...] = ()
        if self.online is not None:
            record = record or Path("runs/online")
            options = Learner(self.online, self.file, record / "learner", recordings=record, rate=self.rate)
            learner = options.command_line(self.namespace)
        from ddpg_robot_ros.deploy import deploy

        code: int = deploy(
            policy,
            plant=self.plant,
            model=model_for(policy, self.robot) if self.plant else None,
            guard=self.guard,
            rate=self.rate,
            namespace=self.namespace,
            params_file=self.params_file,
            duration=self.duration,
            shadow=self.shadow,
            record=record,
            learner=learner,
        )
        return code


@dataclass(frozen=True)
class Plant:
    """Run a simulated robot alone as a ROS 2 node that stands in for the hardware, until Ctrl-C."""

    model: str = "arm_reach"
    """Robot: a shipped model, an MJCF file, or the task file of a robot of your own (my_arm.toml)."""
    rate: float = 500.0
    """Joint states per second, Hz."""
    gravity_compensation: bool = True
    """The arm's firmware adds the torque that holds it against gravity."""
    joint_order: tuple[str, ...] = ()
    """Order of the joints in its messages. Default: the model's."""
    namespace: str = ""
    """ROS namespace."""
    clock: Flag = False
    """Publish /clock."""
    draw: Annotated[str, arg(metavar="JSON")] = ""
    """The robot of an episode with domain randomisation, JSON or a file of it. Default: the model's own."""

    def __call__(self) -> int:
        """Runs the node until it is told to stop; returns the exit code."""
        need("ros", "sim")
        from ddpg_robot_ros.deploy import run_plant

        code: int = run_plant(
            self.model, self.rate, self.gravity_compensation, self.joint_order, self.namespace, self.clock, self.draw
        )
        return code


@dataclass(frozen=True)
class Report:
    """Write one self-contained report.html from a run directory and what was measured beside it."""

    run: RunPath
    """Directory of a demo (runs/demo) or of a training run."""

    def __call__(self) -> int:
        """Writes the report; returns the exit code."""
        from ddpg_robot.cli.film import film_of
        from ddpg_robot.report import write_report

        print(f"Wrote {write_report(self.run, film_of(self.run))}")
        return 0


@dataclass(frozen=True)
class Demo:
    """The whole job: train, evaluate, export, drive over ROS, report. Interrupted, it goes on where it was."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("runs/demo")
    """Directory of all results."""
    fast: Flag = False
    """Skip training and use the shipped policy."""
    steps: int = 80_000
    """Environment steps of the training."""
    seed: int = 0
    """Seed of the training."""

    def __call__(self) -> int:
        """Runs every stage that has no result yet; returns the exit code."""
        need("train", "sim", "export")
        from ddpg_robot.demo import run_demo

        return run_demo(self.out, fast=self.fast, steps=self.steps, seed=self.seed)


Command = Union[  # noqa: UP007 - tyro reads the annotations
    Annotated[Demo, subcommand("demo")],
    Annotated[NewRobot, subcommand("new-robot")],
    Annotated[Train, subcommand("train")],
    Annotated[Evaluate, subcommand("evaluate")],
    Annotated[Transfer, subcommand("transfer")],
    Annotated[Export, subcommand("export")],
    Annotated[Inspect, subcommand("inspect")],
    Annotated[Verify, subcommand("verify")],
    Annotated[Deploy, subcommand("deploy")],
    Annotated[Learner, subcommand("learner")],
    Annotated[Versions, subcommand("versions")],
    Annotated[Replay, subcommand("replay")],
    Annotated[Identify, subcommand("identify")],
    Annotated[Plant, subcommand("plant")],
    Annotated[Top, subcommand("top")],
    Annotated[Doctor, subcommand("doctor")],
    Annotated[Benchmark, subcommand("benchmark")],
    Annotated[Report, subcommand("report")],
]
"""Every sub-command, in the order in which `--help` lists them."""

"""As policy.launch.py, and a learner beside it: the policy explores, and what is learnt comes back to it.

The learner needs the extras `train` and `export`, the training run that the policy was exported from, and may run on another
machine: ``learner:=false`` here, and ``ddpg-robot learner RUN POLICY`` there.
"""

import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

ARGUMENTS = (
    ("run", "", "Directory of the training run that the policy was exported from."),
    ("policy", "arm_reach", "Policy file (.onnx) of that run, or the name of a shipped policy."),
    ("record", "runs/online", "Directory of recordings, versions and the learner's checkpoints."),
    ("learner", "true", "Start the learner here."),
    ("reward", "auto", "What is learnt from: the `task`'s own reward or the `topic`; auto: the task's, if it has one."),
    ("plant", "true", "Start the simulated arm; false drives a real robot."),
    ("namespace", "", "ROS namespace of all nodes."),
)


def generate_launch_description() -> LaunchDescription:
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    record = Path(given["record"]).expanduser().resolve()
    arguments = {**{name: given[name] for name in ("policy", "plant", "namespace")}, "record": str(record)}
    source = PythonLaunchDescriptionSource(str(Path(__file__).with_name("policy.launch.py")))
    actions = [IncludeLaunchDescription(source, launch_arguments={**arguments, "online": "true"}.items())]
    if given["learner"].lower() == "true":
        if not given["run"]:
            raise ValueError("launch argument run: found nothing, expected the directory of a training run")
        command = [sys.executable, "-m", "ddpg_robot.cli", "learner", given["run"], given["policy"]]
        command += ["--out", str(record / "learner"), "--recordings", str(record), "--namespace", given["namespace"]]
        command += ["--reward", given["reward"]]
        actions.append(
            ExecuteProcess(cmd=command, name="learner_node", output="screen", respawn=True, respawn_delay=2.0)
        )
    return actions

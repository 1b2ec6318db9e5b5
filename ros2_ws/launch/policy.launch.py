"""Guard and policy node, with the simulated robot unless ``plant:=false``.

Ctrl-C ends in damping, then zero effort. A node that refuses its settings ends the launch; a policy node that dies leaves
the guard damping.
"""

import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

PACKAGE = "ddpg_robot"
REFUSED = 2  # exit status of a node whose settings cannot work

ARGUMENTS = (
    ("policy", "arm_reach", "Policy file (.onnx), or the name of a shipped policy."),
    ("plant", "true", "Start the simulated robot; false drives a real robot."),
    ("model", "", "What the plant simulates: MJCF file or task file (.toml); empty = the model of the policy's robot."),
    ("guard", "true", "Put the effort guard between policy and controller."),
    ("rate", "0.0", "Ticks per second, a whole multiple of the policy's rate; 0 = as trained."),
    ("shadow", "false", "Command nobody: publish on policy_node/shadow_effort what would be commanded; no guard."),
    ("record", "", "Directory for recordings of every tick; empty for none."),
    ("online", "false", "Explore, and take a learner's policies; needs record. See online.launch.py."),
    ("namespace", "", "ROS namespace of all nodes."),
    ("params_file", str(Path(__file__).parents[1] / "config" / "policy.yaml"), "ROS parameter file for all nodes."),
)


def generate_launch_description() -> LaunchDescription:
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    shadow, online = is_true(given["shadow"]), is_true(given["online"])
    guarded = is_true(given["guard"]) and not shadow
    # A relative path means the shell's folder, not that of a node.
    policy = str(Path(given["policy"]).resolve()) if Path(given["policy"]).suffix else given["policy"]
    nodes = []
    if is_true(given["plant"]):
        model = str(Path(given["model"]).resolve()) if Path(given["model"]).suffix else given["model"]
        own = {"policy": policy, **({"model": model} if model else {}), **({"reward": True} if online else {})}
        nodes.append(node("plant_node", given, own))
    if guarded:
        nodes.append(node("effort_guard", given, {"policy": policy}, respawn=True))
    parameters = {"policy": policy, "rate": float(given["rate"]), "autostart": True, "guarded": guarded}
    parameters |= {"shadow": shadow, "online": online}
    if given["record"]:
        parameters["record"] = str(Path(given["record"]).expanduser().resolve())
    nodes.append(node("policy_node", given, parameters))
    return [*nodes, *(RegisterEventHandler(OnProcessExit(target_action=one, on_exit=ended)) for one in nodes)]


def node(name: str, given: dict[str, str], parameters: dict, **options: object) -> Node:
    """A node of the installed package, or of the Python environment that launches it."""
    try:
        get_package_prefix(PACKAGE)
        what = {"package": PACKAGE, "executable": name}
    except (PackageNotFoundError, OSError):  # OSError: no ament environment at all
        what = {"executable": sys.executable, "arguments": ["-m", f"ddpg_robot_ros.{name}"]}
    return Node(
        **what,
        name=name,
        namespace=given["namespace"],
        parameters=[given["params_file"], parameters],
        output="screen",
        **options,
    )


def ended(event: object, context: LaunchContext) -> list | None:
    if context.is_shutdown:
        return None
    if event.returncode == REFUSED:
        return [Shutdown(reason=f"{event.process_name} refused its settings")]
    return [LogInfo(msg=f"{event.process_name} ended by itself, exit status {event.returncode}")]


def is_true(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"launch argument: found '{text}', expected true or false")
    return text.lower() == "true"

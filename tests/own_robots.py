"""Models of robots of one's own, as text: a three-joint arm that can be made wrong in one place at a time."""

from __future__ import annotations

from pathlib import Path

MOTORS = "".join(f'<motor joint="{name}" ctrlrange="-20 20"/>' for name in ("waist", "shoulder", "elbow"))
SERVOS = "".join(f'<position joint="{name}" kp="50" forcerange="-15 15"/>' for name in ("waist", "shoulder", "elbow"))
INERTIAL = '<inertial><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>'


def mjcf(
    actuators: str = MOTORS,
    elbow: str = '<joint name="elbow" range="-2.2 2.2"/>',
    forearm: str = '<geom type="capsule" fromto="0 0 0 0 0 0.25" size="0.03" mass="0.6"/>',
    base: str = "",
    extra: str = "",
) -> str:
    """An arm of three hinges with a reach of 0.55 m; its hand is turned, its shoulder beside the waist."""
    return f"""<mujoco model="three">
  <compiler angle="radian" autolimits="true"/>
  <default><joint axis="0 1 0" damping="0.5" armature="0.02"/></default>
  <worldbody>
    <body name="pedestal" pos="0.1 0 0.1">{base}
      <geom type="cylinder" fromto="0 0 -0.1 0 0 0" size="0.05" mass="3"/>
      <body name="turret" euler="0 0 0.3">
        <joint name="waist" axis="0 0 1" range="-2.5 2.5"/>
        <geom type="cylinder" fromto="0 0 0 0 0 0.1" size="0.05" mass="1.5"/>
        <body name="upper_arm" pos="0 0 0.12">
          <joint name="shoulder" pos="0 0.01 0" range="-1.6 1.6"/>
          <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.035" mass="1"/>
          <body name="forearm" pos="0 0 0.3">{elbow}{forearm}
            <body name="hand" pos="0 0 0.25" quat="0.7071067811865476 0 0.7071067811865476 0">
              <site name="tool" pos="0.02 0 0.01"/>
            </body>
            {extra}
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>"""


def urdf(limit: str = 'effort="15" velocity="2.5"', inertial: str = INERTIAL, kind: str = "revolute") -> str:
    """The like as URDF; `tool0` is a link that is fixed to the forearm. The arguments are the elbow's."""
    lower = 'lower="-2" upper="2"' if kind != "continuous" else ""

    def joint(name: str, parent: str, child: str, axis: str, z: float, limits: str, kind: str = "revolute") -> str:
        return (
            f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="0 0 {z}"/><axis xyz="{axis}"/><limit {limits}/></joint>'
        )

    usual = 'lower="-2" upper="2" effort="20" velocity="2"'
    return (
        '<robot name="three"><link name="base"/>'
        f'<link name="turret">{INERTIAL}</link><link name="upper_arm">{INERTIAL}</link>'
        f'<link name="forearm">{inertial}</link><link name="tool0"/>'
        + joint("waist", "base", "turret", "0 0 1", 0.1, usual)
        + joint("shoulder", "turret", "upper_arm", "0 1 0", 0.1, usual)
        + joint("elbow", "upper_arm", "forearm", "0 1 0", 0.3, f"{lower} {limit}", kind)
        + '<joint name="flange" type="fixed"><parent link="forearm"/><child link="tool0"/><origin xyz="0 0 0.25"/></joint>'
        "</robot>"
    )


def write(folder: Path, text: str, name: str = "three.xml") -> Path:
    """The text as a file."""
    file = folder / name
    file.write_text(text)
    return file

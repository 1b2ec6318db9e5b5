"""Reading a policy file back: what it says of itself, and whether that holds. Needs no torch and no onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.controller import PolicyController
from ddpg_robot.errors import PolicyFileError, mismatch
from ddpg_robot.policy import OUTPUTS, OnnxPolicy, read_manifest
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import UNBOUNDED, PolicyManifest
from ddpg_robot.spec_json import to_dict
from ddpg_robot_export.probes import (
    TOLERANCE,
    at_rest,
    corner_observations,
    output_range,
    run_one_by_one,
    uniform_observations,
)

SAMPLES = 2000
GATE_SAMPLES = 10_000
JOINT_HEADS = ("joint", "effort N*m", "velocity rad/s", "lower rad", "upper rad")


def inspect_policy(path: str | Path) -> dict[str, Any]:
    """The manifest of a policy file as JSON data, with `file`, `file_bytes` and `output` (name, unit) added.

    Raises:
        PolicyFileError: no policy file, damaged or changed.
    """
    manifest = read_manifest(path)
    unit = "N*m" if manifest.control.mode == "effort" else "rad"
    output = {"name": OUTPUTS[manifest.control.mode], "size": manifest.robot.n_joints, "unit": unit}
    size = Path(path).stat().st_size
    return {"file": str(path), "file_bytes": size, **to_dict(manifest), "output": output}


def format_policy(data: dict[str, Any]) -> str:
    """What `inspect_policy` returned, as a page to read."""
    robot, control, training, parity = (data[key] for key in ("robot", "control", "training", "parity"))
    command = data["command"]
    gravity = "compensated by the robot" if robot["gravity_compensated"] else "left to the policy"
    period_ms = control["period"] * 1e3
    pages = [
        f"policy      {data['name']} ({data['schema']}), created {data['created']}",
        f"file        {data['file']}, {data['file_bytes']} bytes",
        f"weights     sha256 {data['weights_sha256']}",
        f"robot       {robot['name']}, {'floating' if robot['floating_base'] else 'fixed'} base, gravity {gravity}",
        f"control     {control['mode']}, every {period_ms:g} ms, {control['ticks_per_action']} ticks of the loop each",
        f"training    {training['task']}: {training['algorithm']}, preset {training['preset']}, "
        f"{training['steps']} steps, seed {training['seed']}, ddpg-robot {training['code_version']}",
        *(
            []
            if (own := training["robot_file"]) is None
            else [f"task file   {own.get('name')}, model {own.get('model')}"]
        ),
        f"evaluation  {_figures(training['evaluation']) or 'none'}",
        f"parity      largest error {parity['max_abs_error']:.1e} of the joint's "
        f"{'effort limit' if control['mode'] == 'effort' else 'range'}, {parity['samples']} samples",
        *([f"passive     {', '.join(robot['passive_joints'])}"] if "passive_joints" in robot else []),
        *([f"goal        {list(command['lower'])} {command['unit']}, always"] if command["kind"] == "fixed" else []),
        *(["odometry    of the base, topic odom"] if "odometry" in robot else []),
        *([f"object      in frame {thing['frame']}, topic object"] if (thing := robot.get("object")) else []),
        *_table((*JOINT_HEADS, "kp", "kd")[: 5 if control["mode"] == "effort" else 7], _joint_rows(robot, control)),
        *_table(("input", "size", "unit"), [(t["name"], t["size"], t["unit"]) for t in data["observation"]["terms"]]),
        *_table(("command", "size", "unit", "frame"), [tuple(command[k] for k in ("kind", "size", "unit", "frame"))]),
        *_table(("output", "size", "unit"), [tuple(data["output"].values())]),
    ]
    return "\n".join(pages)


def verify_policy(path: str | Path) -> dict[str, Any]:
    """Opens a policy file as the robot does and checks again all that can be checked without the trained actor.

    Returns:
        `file`, `name`, and `checks`: a list of (name, detail), every one of which has passed.

    Raises:
        PolicyFileError: a check failed.
        ObservationError: this version of the package cannot build the policy's terms.
    """
    policy = OnnxPolicy.open(path)
    manifest = policy.manifest
    checks = [
        ("file", "schema, weights hash, operators, inputs, outputs, finite outputs"),
        ("parity record", _check_parity_record(manifest)),
        ("batch and bound runs agree", _check_runs(policy)),
        ("one control step", _check_step(policy)),
    ]
    return {"file": str(path), "name": manifest.name, "checks": checks}


def format_verification(report: dict[str, Any]) -> str:
    """What `verify_policy` returned, one check per line."""
    lines = [f"{report['file']}: policy '{report['name']}'"]
    return "\n".join(lines + [f"  ok  {name}: {detail}" for name, detail in report["checks"]])


def _check_parity_record(manifest: PolicyManifest) -> str:
    parity = manifest.parity
    if parity.samples < GATE_SAMPLES or not parity.max_abs_error <= TOLERANCE:
        found = f"{parity.samples} samples with an error of {parity.max_abs_error:g}"
        raise PolicyFileError(mismatch("parity record", found, f"{GATE_SAMPLES} samples, at most {TOLERANCE:g}"))
    return f"{parity.samples} samples, {parity.max_abs_error:.2e} <= {TOLERANCE:g}"


def _check_runs(policy: OnnxPolicy) -> str:
    """On states within and at the robot's limits: one by one on bound buffers, and all at once."""
    interface, rng = policy.interface, np.random.default_rng(0)
    make = (uniform_observations, corner_observations)
    observations = np.concatenate([draw(interface, SAMPLES // 2, rng) for draw in make])
    splits = np.cumsum([term.size for term in interface.observation.terms])[:-1]
    names = [term.name for term in interface.observation.terms]
    batch = policy.infer(dict(zip(names, np.split(observations, splits, axis=1), strict=True)))
    single = run_one_by_one(policy, observations)
    if not np.isfinite(single).all():
        raise PolicyFileError(mismatch("outputs within the robot's limits", "NaN or infinity", "finite numbers"))
    error = float((np.abs(batch - single) / output_range(interface)).max())
    if not error <= TOLERANCE:
        raise PolicyFileError(mismatch("batch and single runs differ by", f"{error:.3g}", f"at most {TOLERANCE:g}"))
    return f"{len(observations)} states, finite, difference {error:.2e}"


def _check_step(policy: OnnxPolicy) -> str:
    """The robot's own controller, from rest in the middle of the joint ranges."""
    controller = PolicyController(policy, SafetyLimits())
    state, command = at_rest(policy.interface)
    verdict = controller.step(state, command, 0.0)
    if verdict.tripped or not np.isfinite(controller.effort).all():
        raise PolicyFileError(mismatch("a control step from rest", verdict, "no trip, finite effort"))
    return f"largest effort from rest {np.abs(controller.effort).max():.3g} N*m"


def _figures(evaluation: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in evaluation.items() if isinstance(value, (int, float)))


def _joint_rows(robot: dict[str, Any], control: dict[str, Any]) -> list[tuple[Any, ...]]:
    keys = ("effort_limit", "velocity_limit", "position_lower", "position_upper")
    rows = [
        (joint["name"], *("none" if abs(joint[key]) == UNBOUNDED else joint[key] for key in keys))
        for joint in robot["joints"]
    ]
    if control["mode"] == "effort":
        return rows
    return [(*row, kp, kd) for row, kp, kd in zip(rows, control["kp"], control["kd"], strict=True)]


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """Lines of a table, columns as wide as they need; an empty line before it."""
    cells = [heads, *[tuple(f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return [
        "",
        *["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells],
    ]

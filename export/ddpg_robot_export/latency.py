"""`benchmark inference`: how long one step from robot state to safe effort takes on this machine."""

from __future__ import annotations

import gc
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot.controller import PolicyController
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.spec import PolicyInterface
from ddpg_robot_export.probes import at_rest

BLOCK = 500  # runs of one candidate before the next one's turn, so that a busy machine disturbs all of them alike
WARM_UP = 200
BUDGET_US = {"step": 60.0, "onnx_run": 12.0}
"""What the median of a step, and of the network in it, may take, µs."""


def benchmark_inference(policy_path: str | Path, seconds: float = 10.0) -> dict[str, Any]:
    """Measures and prints as a table: full step, ONNX run, and torch eager with the same weights if it is installed.

    Args:
        policy_path: a policy file.
        seconds: duration of the whole measurement, s.

    Returns:
        `policy`, `machine`, `budget_us`, and `rows`: name -> `what`, `runs`, `p50_us`, `p90_us`, `p99_us`, `max_us`.

    Raises:
        PolicyFileError: the file cannot be opened.
    """
    candidates = {
        "step": ("robot state -> observation -> policy -> control law -> safe effort", _full_step(policy_path)),
        "onnx_run": ("the ONNX run alone, on bound buffers", _bound_run(policy_path)),
        "onnx_run_unbound": ("the same with dictionaries and new arrays", _unbound_run(policy_path)),
    }
    if all(importlib.util.find_spec(module) for module in ("torch", "onnx")):
        candidates["torch_eager"] = ("the same network in torch, eager, inference mode", _torch_run(policy_path))
    durations = _measure({name: run for name, (_, run) in candidates.items()}, seconds)
    result = {
        "policy": str(policy_path),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "budget_us": BUDGET_US,
        "rows": {name: {"what": candidates[name][0], **_summary(ns)} for name, ns in durations.items()},
    }
    print(format_latency(result))
    return result


def format_latency(result: dict[str, Any]) -> str:
    """What `benchmark_inference` returned, as a table."""
    lines = [f"{result['policy']} on {result['machine']}; one thread; µs"]
    lines.append(f"{'':<17}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>9}{'budget p50':>12}{'runs':>9}")
    for name, row in result["rows"].items():
        budget = f"{result['budget_us'][name]:.0f}" if name in result["budget_us"] else ""
        figures = "".join(f"{row[key]:>8.1f}" for key in ("p50_us", "p90_us", "p99_us"))
        lines.append(f"{name:<17}{figures}{row['max_us']:>9.1f}{budget:>12}{row['runs']:>9}  {row['what']}")
    if "torch_eager" not in result["rows"]:
        lines.append("torch_eager: not measured, torch or onnx is not installed (pip install 'ddpg-robot[export]')")
    return "\n".join(lines)


def _measure(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Durations of single runs in ns, taken in turns for `seconds` in total."""
    durations: dict[str, list[int]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    clock = time.perf_counter_ns
    end = clock() + round(seconds * 1e9)
    gc_was_on = gc.isenabled()
    gc.disable()  # as in the control loop
    try:
        while clock() < end:
            for name, run in runs.items():
                taken = durations[name]
                for _ in range(BLOCK):
                    start = clock()
                    run()
                    taken.append(clock() - start)
            gc.collect()
    finally:
        if gc_was_on:
            gc.enable()
    return {name: np.array(taken) for name, taken in durations.items()}


def _summary(nanoseconds: np.ndarray) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(nanoseconds, [50, 90, 99]) / 1e3
    return {
        "runs": len(nanoseconds),
        "p50_us": float(p50),
        "p90_us": float(p90),
        "p99_us": float(p99),
        "max_us": float(nanoseconds.max() / 1e3),
    }


def _full_step(path: str | Path) -> Callable[[], object]:
    """The robot's own controller at the policy's rate, so that the network runs in every tick."""
    policy = OnnxPolicy.open(path)
    interface = policy.interface
    controller = PolicyController(policy, SafetyLimits(), 1 / interface.control.period)
    state, command = at_rest(interface)

    def run() -> None:
        verdict = controller.step(state, command, 0.001)
        assert not verdict.tripped, verdict  # a tripped filter would be measured damping

    return run


def _bound_run(path: str | Path) -> Callable[[], object]:
    policy = OnnxPolicy.open(path)
    controller = PolicyController(policy, SafetyLimits())  # binds the policy to its builder
    controller.builder.build(*at_rest(policy.interface), controller.effort)
    return policy.run


def _unbound_run(path: str | Path) -> Callable[[], object]:
    policy = OnnxPolicy.open(path)
    terms = _terms(policy.interface)
    return lambda: policy.infer(terms)


def _torch_run(path: str | Path) -> Callable[[], object]:
    import torch

    from ddpg_robot_export.torch_graph import TorchGraph

    torch.set_num_threads(1)
    network = TorchGraph(path)
    terms = {name: torch.from_numpy(term) for name, term in _terms(OnnxPolicy.open(path).interface).items()}

    @torch.inference_mode()
    def run() -> object:
        return network(terms).numpy()

    return run


def _terms(interface: PolicyInterface) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {t.name: rng.standard_normal((1, t.size)).astype(np.float32) for t in interface.observation.terms}

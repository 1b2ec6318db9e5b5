"""What leaves a learner: an actor near the one that drives, as a policy file, behind a gate, tried in shadow."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddpg_robot import __version__
from ddpg_robot.dry_run import dry_run
from ddpg_robot.errors import ConfigError, mismatch
from ddpg_robot.learn.checkpoint import LoadedActor
from ddpg_robot.learn.networks import Actor
from ddpg_robot.learn.online import Judgement, OnlineLearner
from ddpg_robot.policy import OnnxPolicy
from ddpg_robot.spec import PolicyManifest, Scalar
from ddpg_robot.versions import VersionId
from ddpg_robot_export.actor import DeployedActor
from ddpg_robot_export.exporter import export_actor
from ddpg_robot_export.probes import uniform_observations

PARITY_SAMPLES = 2000
SAME_ACTOR = 1e-3


@dataclass(frozen=True)
class GateSettings:
    """When a candidate is made, and what it has to show on the robot."""

    every: int = 1500
    """Transitions of the robot between two candidates."""
    gated: bool = True
    """False lets everything through that is finite and reproduces torch: for comparisons, in simulation."""
    largest_torque_step: float = 0.1
    """Root mean square distance in torque from the policy that drives, in shadow, in parts of the effort limits."""
    episodes: int = 6
    """Episodes on probation."""
    return_margin: float = 1.0
    """A candidate goes back where its mean reward is lower by so many deviations between the former policy's episodes."""
    patience: int = 3000
    """Transitions after which a candidate that never drove is given up."""


@dataclass
class Candidate:
    """A policy that is made; what was found of it so far."""

    actor: Actor
    figures: dict[str, Scalar]
    data: bytes = b""
    weights: str = ""


class CandidateMaker:
    """Makes policy files of what a learner has learnt.

    Args:
        learner: what learns.
        loaded: the actor of its run.
        policy: file that the robot began with.
        gate: see there.
        rate: ticks per second of the robot's loop.

    Raises:
        ConfigError: the policy is not the run's.
    """

    def __init__(
        self, learner: OnlineLearner, loaded: LoadedActor, policy: OnnxPolicy, gate: GateSettings, rate: float
    ) -> None:
        self._learner, self._gate, self._rate = learner, gate, rate
        self.manifest: PolicyManifest = policy.manifest
        scaling = (np.array(loaded.task[f"action_{name}"]) for name in ("offset", "scale"))
        self._export_as = (*scaling, bool(loaded.task["target_relative"]))
        self._same_units = torch.equal(loaded.normalizer.mean, learner.agent.normalizer.mean)
        self._require_same_actor(policy, self._deployed(loaded.actor, loaded.normalizer))

    def propose(self, driving: Actor) -> Candidate:
        """The newest actor, drawn towards the one that drives until the gate lets it pass, or refused by it.

        Args:
            driving: who drives.

        Raises:
            ConfigError: why nothing may leave, with the figures that were found in its attribute ``figures``.
        """
        if self._gate.gated:
            actor, found = self._learner.propose(driving, self._same_units)
        else:
            actor, found = self._learner.agent.averaged_actor.module, self._newest(driving)
        figures: dict[str, Scalar] = {"step": found.step, "value_change": found.value_change, "states": found.states}
        figures = {name: None if isinstance(one, float) and math.isnan(one) else one for name, one in figures.items()}
        candidate = Candidate(actor, figures)
        if not found.passed:
            raise RefusedError(found.reason, candidate)
        return candidate

    def finish(self, candidate: Candidate, version: VersionId, directory: Path, rows: NDArray[Any]) -> None:
        """Exports a candidate into a directory, behind the parity gate, and tries it in shadow.

        Args:
            candidate: gets its file.
            version: names it.
            directory: of the versions.
            rows: the robot's last ticks.

        Raises:
            ParityError: the graph differs from torch. ConfigError: it did not pass in shadow.
        """
        deployed = self._deployed(candidate.actor, self._learner.agent.normalizer)
        rng = np.random.default_rng(version.number)
        training = dataclasses.replace(
            self.manifest.training,
            algorithm="DDPG, online",
            steps=self.manifest.training.steps + self._learner.received,
            evaluation={},
            code_version=__version__,
        )
        path = directory / f"{version}.onnx"
        observations = uniform_observations(self.manifest.interface, PARITY_SAMPLES, rng)
        limit = self.manifest.exploration_limit
        manifest = export_actor(deployed, training, observations, path, str(version), limit)
        candidate.data, candidate.weights = path.read_bytes(), manifest.weights_sha256
        shadow = dry_run(OnnxPolicy(candidate.data, str(version)), rows, self._rate, self._gate.largest_torque_step)
        candidate.figures |= {"shadow_ticks": shadow.ticks, "shadow_limited": shadow.limited}
        if self._gate.gated and not shadow.passed:
            raise RefusedError(shadow.reason, candidate)

    def _newest(self, driving: Actor) -> Judgement:
        normal = self._learner.agent.normalizer
        found = self._learner.judge(lambda raw: driving(normal(raw)))
        return dataclasses.replace(found, passed=math.isfinite(found.step))

    def _deployed(self, actor: Actor, normalizer: Any) -> DeployedActor:
        return DeployedActor(self.manifest.interface, normalizer, actor, *self._export_as)

    def _require_same_actor(self, policy: OnnxPolicy, deployed: DeployedActor) -> None:
        terms = policy.interface.observation.terms
        observations = uniform_observations(policy.interface, 64, np.random.default_rng(0))
        parts = np.split(observations, np.cumsum([term.size for term in terms])[:-1], axis=1)
        theirs = policy.infer({term.name: part for term, part in zip(terms, parts)})
        apart = float(np.abs(theirs - deployed.flat(observations)).max())
        if not apart < SAME_ACTOR * max(1.0, float(np.abs(theirs).max())):
            hint = "Deploy what `ddpg-robot export` makes of the run that the learner goes on from"
            raise ConfigError(
                mismatch(f"policy '{policy.source}'", "another actor than the run's", "the run's", hint=hint)
            )


class RefusedError(ConfigError):
    """A candidate that may not leave; `candidate` has what was found of it."""

    def __init__(self, reason: str, candidate: Candidate) -> None:
        super().__init__(reason)
        self.candidate = candidate

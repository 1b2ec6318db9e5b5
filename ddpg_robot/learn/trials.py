"""The actor that did best in whole episodes of training, kept while the newest one goes on learning."""

from __future__ import annotations

import copy
from collections import deque
from statistics import fmean

import torch
from torch import Tensor, nn

from ddpg_robot.learn.normalizer import Normalizer


def acting_state(actor: nn.Module, normalizer: Normalizer) -> dict[str, Tensor]:
    """What acting needs: the actor as ``actor.*`` and the normaliser's complete statistics as ``normalizer_statistics.*``."""
    return {
        **{f"actor.{key}": value for key, value in actor.state_dict().items()},
        **{f"normalizer_statistics.{key}": value for key, value in normalizer.statistics().items()},
    }


class Candidate:
    """A copy of an actor and of the normaliser beside it, for a gait does not outlive the numbers that it was learnt with."""

    def __init__(self, actor: nn.Module, normalizer: Normalizer) -> None:
        self.actor = copy.deepcopy(actor).requires_grad_(False)
        self.normalizer = Normalizer(len(normalizer.mean), normalizer.enabled)
        self.load_state_dict(acting_state(actor, normalizer))

    def state_dict(self) -> dict[str, Tensor]:
        """See `acting_state`."""
        return acting_state(self.actor, self.normalizer)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what the `state_dict` of another one gave."""
        for key, value in self.actor.state_dict().items():
            value.copy_(state[f"actor.{key}"])  # in place: who acts by it reads its memory
        self.normalizer.load_statistics(
            {key: state[f"normalizer_statistics.{key}"] for key in self.normalizer.statistics()}
        )


class Trials:
    """Tries copies of an actor in episodes without noise, and keeps the one whose mean return was the highest.

    Single updates can ruin a gait, and an actor taken wherever learning has come to is as often in a dip as on a peak.
    After the checkpoints of TD7 (Fujimoto et al. 2023, arXiv 2306.02451), where the actor stops learning while it is tried;
    here a copy is tried, in every so many rounds of episodes, one round being an episode in each environment. A copy must
    be ahead of the one that is kept after each of its rounds. After each one that is not, the one that is kept drives
    again: what it owed to luck, or to a task that was easier then, goes.

    Args:
        actor: the network whose copies are tried.
        normalizer: of the actor's observations.
        every: a trial in every so many rounds; 0: never.
        episodes: that an actor must have driven before it can be kept.
    """

    def __init__(self, actor: nn.Module, normalizer: Normalizer, every: int, episodes: int) -> None:
        self._newest = actor, normalizer
        self._every, self._episodes = every, episodes
        self.tried = Candidate(*self._newest)
        """Drives while `running`."""
        self.kept = Candidate(*self._newest)
        """The best so far; an untrained one unless `found`."""
        self.running = False
        """Whether this round is a trial."""
        self._again = False
        self._rounds = 0
        self._returns: list[float] = []
        self._kept_returns: deque[float] = deque(maxlen=4 * episodes)

    @property
    def found(self) -> bool:
        """Whether there is one to keep."""
        return bool(self._kept_returns)

    def begin(self) -> None:
        """A round of episodes begins."""
        if self._returns:
            self._judge()
        self._rounds += 1
        self.running = self._every > 0 and self._rounds % self._every == 0
        if self.running and not self._returns:
            self.tried.load_state_dict(self.kept.state_dict() if self._again else acting_state(*self._newest))

    def observe_episode(self, total: float) -> None:
        """An episode of this return, in a round that is a trial, is over."""
        self._returns.append(total)

    def _judge(self) -> None:
        if self._again:
            self._kept_returns.extend(self._returns)
            self._again = False
        elif self.found and fmean(self._returns) < fmean(self._kept_returns):
            self._again = True
        elif len(self._returns) < self._episodes:
            return
        else:
            self.kept.load_state_dict(self.tried.state_dict())
            self._kept_returns.clear()
            self._kept_returns.extend(self._returns)
        self._returns.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """Both candidates and all numbers, between two rounds."""
        rounds = (self._rounds, float(self._again))
        numbers = {"rounds": rounds, "returns": self._returns, "kept_returns": list(self._kept_returns)}
        return {
            **{f"tried.{key}": value for key, value in self.tried.state_dict().items()},
            **{f"kept.{key}": value for key, value in self.kept.state_dict().items()},
            **{name: torch.tensor(one, dtype=torch.float64) for name, one in numbers.items()},
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave."""
        for name, candidate in (("tried", self.tried), ("kept", self.kept)):
            candidate.load_state_dict({key: state[f"{name}.{key}"] for key in candidate.state_dict()})
        rounds, again = state["rounds"].tolist()
        self._rounds, self._again = int(rounds), bool(again)
        self._returns = state["returns"].tolist()
        self._kept_returns = deque(state["kept_returns"].tolist(), self._kept_returns.maxlen)

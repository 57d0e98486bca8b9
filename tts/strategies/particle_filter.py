"""Particle filtering: a population of paths, resampled after every step by what the verifier thinks of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tts.aggregation import Aggregation
from tts.protocols import Needs, Strategy
from tts.resampling import Annealing, Scheme, WeightMap, annealed, effective_size, log_weight, resample, softmax
from tts.selection import Answer, best
from tts.voting import vote

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.search import Search


class ParticleFilter(Strategy):
    """Draw one step of each particle, weigh the paths, resample, repeat until all have finished.

    Puri et al. 2025 (arXiv 2502.01618, algorithm 1). Where its text and its released code differ: the text weighs by
    a softmax of rewards (`weight_map="identity"`), the code behind the figures by a softmax of their logits, that is
    by odds (`logit`, the default); the text's default aggregation is the product, the code judges the whole prefix as
    one step (`whole`, the default). As in both, a particle's weight is its prefix's reward now: resampling at every
    step, or by effective sample size, does not divide it by the reward before. Finished particles stay in the pool
    and compete (`finished="compete"`, the code's --resample-inactive), or leave it.

    Annealing is entropic particle filtering's (Giannone et al.), as its_hub has it; look-ahead modulation, whose
    equation was not available, is left out. Departures: the end is tested before resampling, so that the best
    particle is not lost after the last step; a truncated or dead particle has no weight unless all are; choosing by
    score looks at every finished path of the graph, killed ones included.

    Needs a verifier that scores unfinished paths, and a generator that continues them.
    """

    name: ClassVar[str] = "particle_filter"

    n: int = Field(default=16, ge=1, le=65536, description="particles")
    weight_map: WeightMap = Field(default=WeightMap.LOGIT, description="how a score becomes a log-weight")
    temperature: float = Field(default=1.0, gt=0, le=1000, description="of the softmax over log-weights")
    scheme: Scheme = Field(default=Scheme.MULTINOMIAL, description="how copies are allotted")
    when: Literal["every_step", "ess"] = Field(
        default="every_step", description="ess: only when the effective size is below ess_threshold * n"
    )
    ess_threshold: float = Field(default=0.5, gt=0, le=1, description="share of n, for when=ess")
    annealing: Annealing = Field(default=Annealing.NONE, description="flatten weights early on")
    annealing_ess: float = Field(default=0.5, gt=0, le=1, description="anneal below this effective share")
    annealing_until: float = Field(default=0.5, gt=0, le=1, description="anneal up to this share of max_steps")
    finished: Literal["compete", "leave"] = Field(
        default="compete", description="compete: finished particles are resampled too; leave: they are set aside"
    )
    selection: Literal["score", "weighted", "sample"] = Field(
        default="score", description="the best scored, the answer of greatest total score, or one drawn by weight"
    )
    aggregation: Aggregation = Field(default=Aggregation.WHOLE, description="how step scores become one")

    @property
    def needs(self) -> Needs:
        """A verifier of partial paths, and continuation."""
        return Needs(verifier=True, partial_scores=True, continuation=True)

    async def search(self, s: Search) -> Answer:
        """Step, weigh, resample, until none is left to step."""
        pool: list[Node] = []
        aside: list[Node] = []
        particles: list[Node] = [s.root] * self.n
        steps = 0
        while any(not particle.done for particle in particles):
            children = await s.expand(particles, scored=self.aggregation)
            pool += children
            particles = [particle for particle in particles if particle.done] + children
            steps += 1
            if s.exhausted or all(particle.done for particle in particles):
                break
            if self.finished == "leave":
                aside += [particle for particle in particles if particle.done]
                particles = [particle for particle in particles if not particle.done]
            particles = self._resampled(s, particles, steps)
        return self._choose(s, pool, [p for p in aside + particles if p.finished])

    def _weight(self, node: Node) -> float:
        if node.score is None or (node.done and not node.finished):
            return -math.inf
        return log_weight(node.score, self.weight_map)

    def _resampled(self, s: Search, particles: list[Node], steps: int) -> list[Node]:
        probabilities = annealed(
            [self._weight(particle) for particle in particles],
            steps / s.sampling.max_steps,
            self.annealing,
            temperature=self.temperature,
            threshold=self.annealing_ess,
            until=self.annealing_until,
        )
        random = s.random()
        if self.when == "ess" and effective_size(probabilities) >= self.ess_threshold * len(particles):
            return particles
        return [particles[place] for place in resample(probabilities, len(particles), self.scheme, random)]

    def _choose(self, s: Search, pool: list[Node], finished: list[Node]) -> Answer:
        copies = Counter(finished)
        if self.selection == "score" or not copies:
            return best(pool)
        if self.selection == "weighted":
            return vote(pool, lambda node: copies[node] * (node.score or 0.0))
        unlike = sorted(copies, key=lambda node: node.key)
        odds = softmax([self._weight(node) + math.log(copies[node]) for node in unlike], self.temperature)
        drawn = unlike[resample(odds, 1, Scheme.MULTINOMIAL, s.random())[0]]
        return Answer(drawn, best(pool).ranking)

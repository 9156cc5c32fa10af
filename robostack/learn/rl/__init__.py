"""Online reinforcement learning of a flow policy: roll out, score, learn, again.

config.py says what can be chosen, loop.py is the loop and turns.py each of its iterations; an
algorithm is a file:

    weighted.py         awr: imitate everything by what it was worth; filtered: only what succeeded
    policy_gradient.py  ppo with a critic, and grpo within groups of tries (self_reference.py)
    step_nft.py         nft: towards what went well and away from what did not, without likelihoods
    rlpd.py             rlpd: the policy stays, small networks choose among and nudge its chunks

over advantages.py (pure functions), replay.py, critic.py, curiosity.py, traces.py (what the sampler
drew) and flow_learner.py (what those share that train the velocity field).
"""

from robostack.learn.rl.config import LIKELIHOOD, CuriosityConfig, RLConfig
from robostack.learn.rl.loop import train
from robostack.learn.rl.traces import Acting
from robostack.learn.rl.turns import Outside, Score

__all__ = ["LIKELIHOOD", "Acting", "CuriosityConfig", "Outside", "RLConfig", "Score", "train"]

"""Classifier-free guidance against predictor and corrector, where every answer is known (arXiv 2408.09000).

The data are N(0, 2), those of the class N(0, 1). Guided by gamma, CFG samples neither the powered law p(x|c)^gamma
p(x)^(1 - gamma) nor one law for both of its samplers; PCG comes to the powered law of gamma' = 2 gamma - 1.
"""

from __future__ import annotations

from legato import diffusion as D

GAMMA = 3.0
everything = D.GaussianMixture([1.0], [[0.0]], [2.0])
of_the_class = D.GaussianMixture([1.0], [[0.0]], [1.0])
pair = D.guided(of_the_class, everything)
schedule = D.Schedule.vp_linear(400)

print("sampler             variance  theory")
for name, theory, how in (
    ("CFG, DDIM", 2 ** (1 - GAMMA), {"sampler": "ddim"}),
    ("CFG, DDPM", (2 - 2 ** (2 - 2 * GAMMA)) / (2 * GAMMA - 1), {"sampler": "ddpm"}),
    ("PCG, 10 corrections", 2 / (2 * GAMMA), {"sampler": "ddim", "corrector_steps": 10}),
):
    x = D.sample(pair, (20_000, 1), schedule, guidance_scale=GAMMA, seeds=0, **how)
    print(f"{name:19} {x.var():8.3f}  {theory:6.3f}")

"""Sample handwritten digits without training: the ideal denoiser of a data set, which recites it.

python digits_sampler.py     # needs scikit-learn, which has the digits
"""

from __future__ import annotations

import numpy as np

from legato import diffusion as D

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit("scikit-learn is missing: pip install scikit-learn") from None

INK = " .:-=+*#%@"
data = load_digits()
images = (data.data / 8 - 1).astype(np.float32)  # 8x8 pixels, -1 to 1
ideal = D.EmpiricalDenoiser(images, data.target)
levels = D.Schedule.karras(20)

nearest = []
for label in range(10):
    pair = D.guided(ideal.given(label), ideal)
    x = D.sample(pair, (6, 64), levels, guidance_scale=2.0, seeds=label)
    nearest += [data.target[((images - row) ** 2).sum(axis=1).argmin()] == label for row in x]
    shades = np.clip((x.reshape(6, 8, 8) + 1) / 2 * len(INK), 0, len(INK) - 1).astype(int)
    for line in np.moveaxis(shades, 0, 1):  # the six side by side
        print("   ".join("".join(INK[shade] * 2 for shade in part) for part in line))
    print()
print(f"{np.mean(nearest):.0%} are of the class that was asked for")

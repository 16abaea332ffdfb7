"""From an idea to the weights of a transformer: how often has this token been seen before.

python rasp_program.py                          # prints each step
python rasp_program.py weights.safetensors      # and writes the weights
"""

from __future__ import annotations

import sys

from legato import rasp
from legato.errors import LegatoError


def repeats(x: rasp.sops.SOp) -> rasp.sops.SOp:
    """Look at the equal tokens so far, the present one included, and count them."""
    return rasp.num_prev(x, x) - 1


program = rasp.Program(repeats)
tokens = [3, 1, 3, 3, 1]
print(f"the program    {tokens} -> {program(tokens).tolist()}")
print(program.steps(tokens))
print(program.check())  # does it keep the rules under which transformers generalize to longer inputs?

weights = rasp.compile(program, vocab=[1, 2, 3], max_len=6)
print(f"the network    {tokens} -> {weights.forward(tokens)}")
print(f"               {weights.n_layers} layers, {weights.n_heads} heads, {weights.n_parameters} parameters")
print(f"on every input {weights.verify()}")
if len(sys.argv) > 1:
    try:
        print(f"wrote          {weights.save(sys.argv[1])}")
    except LegatoError as error:
        sys.exit(str(error))

"""Weights as the transformers of other libraries: TransformerLens's HookedTransformer, Hugging Face's GPT-2.

Both get heads of one size, with zeros where ours are smaller, ReLU units, and an unembedding whose logits are the
one-hot vector of the program's output. Token ids are those of the vocabulary, then BOS, then outputs that are no token.

GPT-2 always normalizes. There the stream is kept with both signs, so that its mean is 0, beside two coordinates of
+-2^20, which make up its variance: what the norm divides by is then constant to about one part in 10^10, and its gain
takes that back. The numbers are float64; float32 cannot hold them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legato._extras import install_command
from legato._files import write_whole
from legato.errors import ArgumentError, DependencyError
from legato.rasp.weights import Weights

__all__ = ["Logits", "logits_of", "save_gpt2", "to_hooked"]

Float = NDArray[np.float64]
_HEIGHT = 2.0**20  # of the coordinates that make up the variance


@dataclass(frozen=True)
class Logits:
    """How outputs stand among the logits.

    See Also
    --------
    logits_of : Return the unembedding: the program's outputs by id, those that are tokens as that token.
    save_gpt2 : Write ``config.json`` and ``model.safetensors`` of a Hugging Face `GPT2LMHeadModel` into a folder.

    Examples
    --------
    >>> from legato import rasp
    >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2], max_len=2)
    >>> rasp.logits_of(w).values
    [1, 2, None, 0]
    """

    values: list[Any]  #: of each id; None for BOS
    unembedding: Float  #: (width, ids)


def logits_of(weights: Weights) -> Logits:
    """Return the unembedding: the program's outputs by id, those that are tokens as that token.

    See Also
    --------
    to_hooked : Return a `transformer_lens.HookedTransformer` (float64.
    save_gpt2 : Write ``config.json`` and ``model.safetensors`` of a Hugging Face `GPT2LMHeadModel` into a folder.

    Examples
    --------
    >>> from legato import rasp
    >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2], max_len=2)
    >>> rasp.logits_of(w).unembedding.shape[0] == w.width
    True
    """
    piece, outputs = weights.residual_layout[weights.output]
    values: list[Any] = [*weights.vocab, None]
    ids = []
    for value in outputs:
        same = [at for at, x in enumerate(values[:-1] if len(values) == len(weights.vocab) + 1 else values)
                if at != len(weights.vocab) and type(x) is type(value) and x == value]  # fmt: skip
        ids.append(same[0] if same else len(values))
        if not same:
            values.append(value)
    unembedding = np.zeros((weights.width, len(values)))
    unembedding[np.arange(piece.start, piece.stop), ids] = 1
    return Logits(values, unembedding)


@dataclass(frozen=True)
class _Stacked:
    """The arrays of a layer with heads of one size: scores are divided by its root there, so queries are multiplied."""

    query: Float  # (heads, width, size)
    key: Float
    value: Float
    out: Float  # (heads, size, width)


def _head_size(weights: Weights) -> int:
    sizes: list[int] = [max(head.query.shape[1], head.value.shape[1]) for own in weights.heads for head in own]
    return max([1, *sizes])


def _stacked(weights: Weights, layer: int, heads: int, size: int) -> _Stacked:
    query, key, value = (np.zeros((heads, weights.width, size)) for _ in range(3))
    out = np.zeros((heads, size, weights.width))
    for at, head in enumerate(weights.heads[layer]):
        query[at, :, : head.query.shape[1]] = head.query * np.sqrt(size)
        key[at, :, : head.key.shape[1]] = head.key
        value[at, :, : head.value.shape[1]] = head.value
        out[at, : head.out.shape[0]] = head.out
    return _Stacked(query, key, value, out)


def to_hooked(weights: Weights) -> Any:
    """Return a `transformer_lens.HookedTransformer` (float64, no norm) with the weights (TransformerLens before 4).

    Ids go in with BOS first: ``model(torch.tensor([weights.ids(tokens)]))``; position i + 1 of the logits belongs to
    token i, and ``logits_of(weights).values`` names the ids.

    See Also
    --------
    save_gpt2 : Write ``config.json`` and ``model.safetensors`` of a Hugging Face `GPT2LMHeadModel` into a folder.
    logits_of : Return the unembedding: the program's outputs by id, those that are tokens as that token.

    Examples
    --------
    >>> from legato import rasp
    >>> from legato.errors import DependencyError
    >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2], max_len=2)
    >>> try:
    ...     model = rasp.to_hooked(w)
    ... except DependencyError:                              # TransformerLens is not installed
    ...     model = None
    """
    try:
        import torch
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        raise DependencyError("to_hooked needs TransformerLens before 4: pip install 'transformer-lens<4'") from None
    logits = logits_of(weights)
    heads, size = max(weights.n_heads, 1), _head_size(weights)
    hidden = max([1, *(len(bias) for _, bias, _ in weights.units)])
    config = HookedTransformerConfig(
        n_layers=max(weights.n_layers, 1), d_model=weights.width, n_ctx=weights.max_len + 1, d_head=size, n_heads=heads,
        d_mlp=hidden, d_vocab=len(logits.values), d_vocab_out=len(logits.values), act_fn="relu",
        attention_dir="causal" if weights.causal else "bidirectional", normalization_type=None, dtype=torch.float64,
        device="cpu", init_weights=False,
    )  # fmt: skip
    model = HookedTransformer(config)
    state = model.state_dict()
    embedding = np.zeros((len(logits.values), weights.width))
    embedding[: len(weights.token_embedding)] = weights.token_embedding
    given: dict[str, Float] = {
        "embed.W_E": embedding, "pos_embed.W_pos": weights.position_embedding, "unembed.W_U": logits.unembedding
    }  # fmt: skip
    for i in range(weights.n_layers):
        found = _stacked(weights, i, heads, size)
        inner, bias, outer = weights.units[i]
        at = f"blocks.{i}."
        given |= {
            f"{at}attn.W_Q": found.query, f"{at}attn.W_K": found.key, f"{at}attn.W_V": found.value,
            f"{at}attn.W_O": found.out, f"{at}mlp.W_in": _padded(inner, (weights.width, hidden)),
            f"{at}mlp.b_in": _padded(bias, (hidden,)), f"{at}mlp.W_out": _padded(outer, (hidden, weights.width)),
        }  # fmt: skip
    for name, tensor in state.items():
        if name in given:
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(given[name])))
        elif "mask" not in name.lower() and "ignore" not in name.lower():
            tensor.zero_()  # biases that we do not have, and the layer of a program without one
    model.load_state_dict(state)
    return model.eval()


def _padded(array: Float, shape: tuple[int, ...]) -> Float:
    out = np.zeros(shape)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def save_gpt2(weights: Weights, folder: str | Path) -> Path:
    """Write ``config.json`` and ``model.safetensors`` of a Hugging Face `GPT2LMHeadModel` into a folder.

    ``GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float64)`` loads it; ids and logits are those of `to_hooked`.

    Raises
    ------
    ArgumentError
        The weights are not causal, as every GPT-2 is.

    See Also
    --------
    to_hooked : Return a `transformer_lens.HookedTransformer` (float64.
    logits_of : Return the unembedding: the program's outputs by id, those that are tokens as that token.

    Examples
    --------
    >>> from legato import rasp
    >>> w = rasp.compile(rasp.Program(lambda x: rasp.num_prev(x, x)), vocab=[1, 2], max_len=2)
    >>> sorted(path.name for path in rasp.save_gpt2(w, "gpt2").iterdir())
    ['config.json', 'model.safetensors']
    """
    if not weights.causal:
        raise ArgumentError("save_gpt2: expected causal weights: compile the program with causal=True")
    try:
        from safetensors.numpy import save
    except ImportError:
        raise DependencyError(f"saving weights needs safetensors: {install_command('rasp')}") from None
    logits = logits_of(weights)
    n, heads = weights.width, max(weights.n_heads, 1)
    width = heads * max(_head_size(weights), -(-(2 * n + 2) // heads))  # GPT-2's heads share its width
    size = width // heads
    hidden = max([1, *(len(bias) for _, bias, _ in weights.units)])
    gain = np.full(width, _HEIGHT * np.sqrt(2 / width))
    embedding = np.zeros((len(logits.values), width))
    embedding[: len(weights.token_embedding)] = _signed(weights.token_embedding, width)
    embedding[:, 2 * n], embedding[:, 2 * n + 1] = _HEIGHT, -_HEIGHT
    arrays = {
        "transformer.wte.weight": embedding,
        "transformer.wpe.weight": _signed(weights.position_embedding, width),
        "transformer.ln_f.weight": gain,
        "transformer.ln_f.bias": np.zeros(width),
        "lm_head.weight": _padded(logits.unembedding, (width, len(logits.values))).T,
    }
    for i in range(max(weights.n_layers, 1)):
        at = f"transformer.h.{i}."
        attention, moved, inner, bias, outer = _gpt2_layer(weights, i, heads, size, width, hidden)
        arrays |= {f"{at}ln_{k}.weight": gain for k in (1, 2)} | {f"{at}ln_{k}.bias": np.zeros(width) for k in (1, 2)}
        arrays |= {
            f"{at}attn.c_attn.weight": attention, f"{at}attn.c_attn.bias": np.zeros(3 * width),
            f"{at}attn.c_proj.weight": moved, f"{at}attn.c_proj.bias": np.zeros(width),
            f"{at}mlp.c_fc.weight": inner, f"{at}mlp.c_fc.bias": bias,
            f"{at}mlp.c_proj.weight": outer, f"{at}mlp.c_proj.bias": np.zeros(width),
        }  # fmt: skip
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "relu",
        "vocab_size": len(logits.values), "n_positions": weights.max_len + 1, "n_ctx": weights.max_len + 1,
        "n_embd": width, "n_layer": max(weights.n_layers, 1), "n_head": heads, "n_inner": hidden,
        "layer_norm_epsilon": 1e-12, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "tie_word_embeddings": False, "bos_token_id": len(weights.vocab), "eos_token_id": len(weights.vocab),
        "torch_dtype": "float64", "id_of_output": {repr(value): at for at, value in enumerate(logits.values)},
    }  # fmt: skip
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(folder / "model.safetensors", save(contiguous, metadata={"format": "pt"}))
    write_whole(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return folder


def _signed(array: Float, width: int) -> Float:
    """Return what is added to the stream, with both signs."""
    return _padded(np.concatenate([array, -array], axis=1), (len(array), width))


def _gpt2_layer(weights: Weights, layer: int, heads: int, size: int, width: int, hidden: int) -> tuple[Float, ...]:
    """Return c_attn, the projection, and the MLP's inner weight, bias and outer weight."""
    if layer >= weights.n_layers:
        zeros = [(width, 3 * width), (width, width), (width, hidden), (hidden,), (hidden, width)]
        return tuple(np.zeros(shape) for shape in zeros)
    found = _stacked(weights, layer, heads, size)
    parts = [part.transpose(1, 0, 2).reshape(weights.width, width) for part in (found.query, found.key, found.value)]
    inner, bias, outer = weights.units[layer]
    return (
        np.concatenate([_padded(part, (width, width)) for part in parts], axis=1),
        _signed(found.out.reshape(width, weights.width), width),
        _padded(inner, (width, hidden)),
        _padded(bias, (hidden,)),
        _padded(_signed(outer, width), (hidden, width)),
    )

"""RASP and RASP-L: programs of select and aggregate, on long sequences, token by token, and as transformer weights.

Papers: Weiss, Goldberg, Yahav, "Thinking Like Transformers" (ICML 2021); Zhou et al., "What Algorithms can Transformers
Learn? A Study in Length Generalization" (2023).

Examples
--------
>>> from legato import rasp
>>> rasp.num_prev([5, 7, 5, 5], [5, 5, 5, 7])
array([1, 1, 2, 1])
>>> p = rasp.Program(lambda x: rasp.induct(x, x, offset=1))
>>> p([4, 9, 2, 4, 9])
array([0, 0, 0, 9, 2])
>>> p.generate([4, 9, 2, 4], max_new=3)
[9, 2, 4]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from legato._lazily import lazily
from legato.rasp.core import (
    aggr,
    aggr_max,
    aggr_mean,
    aggr_min,
    aggr_sum,
    full,
    indices,
    kqv,
    sel_width,
    select,
    seq_map,
    tok_map,
)
from legato.rasp.functions import (
    argmax,
    argmin,
    binary_mode,
    counts_reach,
    cumsum,
    first_true,
    firsts,
    has_seen,
    index_select,
    induct,
    induct_kqv,
    induct_prev,
    lasts,
    leftmost,
    mask,
    maximum,
    minimum,
    mode,
    num_prev,
    rightmost,
    shift_right,
    where,
)
from legato.rasp.legality import Report
from legato.rasp.pictures import Picture, Steps, heat_map
from legato.rasp.predicates import Predicate, equals, false, geq, gt, leq, lt, neq, true
from legato.rasp.programs import Program
from legato.rasp.selectors import Selector

if TYPE_CHECKING:
    from legato.rasp import datasets, sops, tasks
    from legato.rasp.compiling import CompileError, compile
    from legato.rasp.exporting import Logits, logits_of, save_gpt2, to_hooked
    from legato.rasp.language import Analysis, Interpreter, LanguageError
    from legato.rasp.weights import Verification, Weights

# Compiling, the language and the tasks wait until they are asked for.
_HOMES = {
    "Analysis": "language",
    "CompileError": "compiling",
    "Interpreter": "language",
    "LanguageError": "language",
    "Logits": "exporting",
    "Verification": "weights",
    "Weights": "weights",
    "compile": "compiling",
    "datasets": "datasets",
    "logits_of": "exporting",
    "save_gpt2": "exporting",
    "sops": "sops",
    "tasks": "tasks",
    "to_hooked": "exporting",
}

__all__ = [
    "Analysis",
    "CompileError",
    "Interpreter",
    "LanguageError",
    "Logits",
    "Picture",
    "Predicate",
    "Program",
    "Report",
    "Selector",
    "Steps",
    "Verification",
    "Weights",
    "aggr",
    "aggr_max",
    "aggr_mean",
    "aggr_min",
    "aggr_sum",
    "argmax",
    "argmin",
    "binary_mode",
    "compile",
    "counts_reach",
    "cumsum",
    "datasets",
    "equals",
    "false",
    "first_true",
    "firsts",
    "full",
    "geq",
    "gt",
    "has_seen",
    "heat_map",
    "index_select",
    "indices",
    "induct",
    "induct_kqv",
    "induct_prev",
    "kqv",
    "lasts",
    "leftmost",
    "leq",
    "logits_of",
    "lt",
    "mask",
    "maximum",
    "minimum",
    "mode",
    "neq",
    "num_prev",
    "rightmost",
    "save_gpt2",
    "sel_width",
    "select",
    "seq_map",
    "shift_right",
    "sops",
    "tasks",
    "to_hooked",
    "tok_map",
    "true",
    "where",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)

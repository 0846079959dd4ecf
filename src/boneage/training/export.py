"""torch -> ONNX, checked for parity before the file gets its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from boneage.core.errors import BundleError

PARITY = 1e-3
"""Largest accepted difference from torch, relative to the output's largest value."""

HALF_PARITY = 5e-3
"""The same for weights stored as float16."""


@torch.no_grad()
def export_graph(
    net: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    half_weights: bool = True,
) -> float:
    """Write a network as an ONNX graph with a free batch axis.

    Args:
        net: in eval mode.
        examples: named example inputs, two of a batch.
        outputs: names of what the network returns.
        path: the file; it appears only when parity holds.
        half_weights: store weights as float16 (half the size); the graph still computes in float32.

    Returns:
        The largest difference from torch, relative to the output's largest value.

    Raises:
        BundleError: the graph does not compute what the network does.
    """
    partial = path.with_suffix(".partial.onnx")
    names = list(examples)
    torch.onnx.export(
        net,
        tuple(examples.values()),
        str(partial),
        input_names=names,
        output_names=list(outputs),
        dynamic_axes={name: {0: "batch"} for name in [*names, *outputs]},
        opset_version=17,
        dynamo=False,
    )
    if half_weights:
        store_half_weights(partial)
    difference = _difference(net, examples, outputs, partial)
    limit = HALF_PARITY if half_weights else PARITY
    if difference > limit:
        partial.unlink()
        raise BundleError(f"the exported graph differs from torch by {difference:.1e}, over {limit:.0e}")
    partial.replace(path)
    return difference


def store_half_weights(path: Path) -> None:
    """Rewrite a graph so that its large float32 weights are stored as float16 and cast when it loads."""
    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 256 and np.abs(values).max() < 6e4:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _difference(net: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> float:
    result = net(*examples.values())
    expected = [result] if isinstance(result, Tensor) else list(result)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(list(outputs), {name: value.numpy() for name, value in examples.items()})
    gaps = [
        np.abs(a.numpy() - b).max() / max(np.abs(a.numpy()).max(), 1e-6)
        for a, b in zip(expected, got, strict=True)
    ]
    return float(max(gaps))

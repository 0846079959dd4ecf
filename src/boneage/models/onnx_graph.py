"""A shipped graph as a network that can be trained further; its weights go back into the same graph.

A run's checkpoints are not shipped and a bundle's graphs are: so a site, or a later recipe, can go on from a
bundle alone. The graphs are inference graphs (batch norm that follows a convolution is folded into it, the
rest is fixed, no dropout), and are trained as such: the filters, each kept at its mean and its standard
deviation (weight standardisation, Qiao et al. 2019), because what a filter sees is positive and a common
shift of its weights would move its answer more than anything that is to be learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from boneage.core.errors import BundleError

_HALF = ".half"
"""Ends the name of an initialiser that is stored as float16 and cast when the graph runs."""

_TRAINED_BY = ("Conv", "Gemm")
"""Nodes whose weights are trained; biases, statistics, scales and constants stay as they are."""

_DEAD = 1e-6
"""Standard deviation under which a filter has no contrast to train."""

Attributes = Mapping[str, Any]


class OnnxGraph(nn.Module):
    """Computes what an ONNX graph computes, in torch.

    Args:
        path: the graph.

    Raises:
        BundleError: the graph has a node that is not known here, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self._model = onnx.load(path)
        except Exception as error:
            raise BundleError(f"{path.name} cannot be read as a graph: {error}") from error
        graph = self._model.graph
        unknown = sorted({node.op_type for node in graph.node} - set(_OPERATORS))
        if unknown:
            raise BundleError(f"{path.name} has nodes that cannot be trained: {', '.join(unknown)}")
        self.inputs = [one.name for one in graph.input]
        self.outputs = [one.name for one in graph.output]
        self._nodes = [node for node in graph.node if not _is_uncast(node)]
        self._attributes = [_attributes_of(node) for node in self._nodes]
        trained = {node.input[1] for node in self._nodes if node.op_type in _TRAINED_BY}
        self._filters: dict[str, Filters] = {}
        self._fixed: dict[str, Tensor] = {}
        for tensor in graph.initializer:
            name = tensor.name.removesuffix(_HALF)
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            values = values.float() if values.is_floating_point() else values
            if name in trained and values[0].numel() > 1:
                self._filters[name] = Filters(values)
            else:
                self._fixed[name] = values
        self.filters = nn.ModuleList(self._filters.values())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the graph's outputs for its inputs, both in the graph's order."""
        weights = {name: filters() for name, filters in self._filters.items()}
        known: dict[str, Any] = {**self._fixed, **weights, **dict(zip(self.inputs, inputs, strict=True))}
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            given = [known[name] if name else None for name in node.input]
            result = _OPERATORS[node.op_type](attributes, *given)
            known[node.output[0]] = result
        return tuple(known[name] for name in self.outputs)

    @torch.no_grad()
    def save(self, path: Path) -> None:
        """Write the graph with the weights as they are now, stored as precisely as they were."""
        graph = self._model.graph
        written = onnx.ModelProto()
        written.CopyFrom(self._model)
        for old, new in zip(graph.initializer, written.graph.initializer, strict=True):
            filters = self._filters.get(old.name.removesuffix(_HALF))
            if filters is not None:
                values = filters().detach().numpy().astype(numpy_helper.to_array(old).dtype)
                new.CopyFrom(numpy_helper.from_array(values, old.name))
        partial = path.with_suffix(".partial.onnx")
        onnx.save(written, partial)
        partial.replace(path)


class Filters(nn.Module):
    """The weights (out, ...) of one node, of which each filter keeps its mean and standard deviation.

    What is trained has mean 0 and standard deviation 1, so that a learning rate is a share of the weights.
    A filter without contrast stays as it is.
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self._axes = tuple(range(1, weights.dim()))
        self._given = weights
        self._mean, self._deviation = self._moments(weights)
        self._alive = self._deviation > _DEAD
        self.unit = nn.Parameter((weights - self._mean) / self._deviation)

    def forward(self) -> Tensor:
        """Return the weights as the node takes them."""
        mean, deviation = self._moments(self.unit)
        standard = (self.unit - mean) * (self._deviation / deviation) + self._mean
        return torch.where(self._alive, standard, self._given)

    def _moments(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        mean = weights.mean(dim=self._axes, keepdim=True)
        variance = (weights - mean).square().mean(dim=self._axes, keepdim=True)
        return mean, (variance + 1e-14).sqrt()  # the root of 0 has no gradient


def _is_uncast(node: onnx.NodeProto) -> bool:
    """Return whether a node only casts a weight that is stored as float16."""
    return node.op_type == "Cast" and node.input[0].endswith(_HALF)


def _attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    found = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "Constant":
        found["value"] = torch.from_numpy(numpy_helper.to_array(found["value"]).copy())
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}


def _ints(values: Tensor) -> list[int]:
    return [int(value) for value in values.reshape(-1)]


def _padded(image: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Return maps (N, C, H, W) with ONNX's pads (top, left, bottom, right) around them."""
    top, left, bottom, right = pads
    return functional.pad(image, (left, right, top, bottom), value=value) if any(pads) else image


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    same = (top, left) == (bottom, right)
    x = x if same else _padded(x, (top, left, bottom, right))
    return functional.conv2d(
        x,
        weight,
        bias,
        stride=tuple(a.get("strides", (1, 1))),
        padding=(top, left) if same else 0,
        dilation=tuple(a.get("dilations", (1, 1))),
        groups=a.get("group", 1),
    )


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    x = _padded(x, a.get("pads", (0, 0, 0, 0)), -torch.inf)
    return functional.max_pool2d(
        x, a["kernel_shape"], a.get("strides", (1, 1)), ceil_mode=bool(a.get("ceil_mode", 0))
    )


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise BundleError("average pooling with uneven padding cannot be trained")
    return functional.avg_pool2d(
        x,
        a["kernel_shape"],
        a.get("strides", (1, 1)),
        padding=(top, left),
        ceil_mode=bool(a.get("ceil_mode", 0)),
        count_include_pad=bool(a.get("count_include_pad", 0)),
    )


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA") else x
    product: Tensor = a.get("alpha", 1.0) * (x @ (weight.T if a.get("transB") else weight))
    return product if bias is None else product + a.get("beta", 1.0) * bias


def _reduce(function: Callable[..., Tensor], a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = _ints(axes) if axes is not None else list(a.get("axes", range(x.dim())))
    return function(x, dim=dims, keepdim=bool(a.get("keepdims", 1)))


def _slice(
    _: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor | None = None
) -> Tensor:
    strides = _ints(steps) if steps is not None else [1] * len(starts)
    index: list[slice] = [slice(None)] * x.dim()
    for axis, start, end, step in zip(_ints(axes), _ints(starts), _ints(ends), strides, strict=True):
        index[axis] = slice(start, min(end, x.shape[axis]), step)
    return x[tuple(index)]


def _resize(
    a: Attributes, x: Tensor, _: Tensor | None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    if a.get("mode", "nearest") == "nearest":
        mode, corners = "nearest", None
    elif a.get("coordinate_transformation_mode", "half_pixel") in ("half_pixel", "pytorch_half_pixel"):
        mode, corners = "bilinear", False
    else:
        raise BundleError("a graph that resizes otherwise than by half pixels cannot be trained")
    if sizes is not None and sizes.numel():
        size = _ints(sizes)[2:]
    else:
        assert scales is not None
        size = [round(side * float(scale)) for side, scale in zip(x.shape[2:], scales[2:], strict=True)]
    return functional.interpolate(x, size=size, mode=mode, align_corners=corners)


def _reshape(_: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(_ints(shape))])


def _unsqueeze(_: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(_ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0)
    found = x.index_select(axis, index.reshape(-1).long())
    return found.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _batch_norm(
    a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, training=False, eps=a.get("epsilon", 1e-5))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, x, y: x + y,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda a, x: x.to(torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(a["to"]))).dtype),
    "Clip": lambda a, x, low=None, high=None: torch.clamp(x, low, high),
    "Concat": lambda a, *parts: torch.cat(parts, dim=a["axis"]),
    "Constant": lambda a: a["value"],
    "Conv": _conv,
    "Div": lambda a, x, y: x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc"),
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)),
    "Exp": lambda a, x: torch.exp(x),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(dim=(2, 3), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.amax(dim=(2, 3), keepdim=True),
    "InstanceNormalization": lambda a, x, s, b: functional.instance_norm(
        x, weight=s, bias=b, eps=a.get("epsilon", 1e-5)
    ),
    "Less": lambda a, x, y: x < y,
    "LogSoftmax": lambda a, x: functional.log_softmax(x.float(), dim=a.get("axis", -1)),
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda a, x, y: x * y,
    "Pow": lambda a, x, y: x**y,
    "ReduceMean": lambda a, x, axes=None: _reduce(torch.mean, a, x, axes),
    "ReduceSum": lambda a, x, axes=None: _reduce(torch.sum, a, x, axes),
    "Relu": lambda a, x: functional.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Sigmoid": lambda a, x: torch.sigmoid(x.float()),
    "Slice": _slice,
    "Softmax": lambda a, x: functional.softmax(x.float(), dim=a.get("axis", -1)),
    "Softplus": lambda a, x: functional.softplus(x.float()),
    "Sqrt": lambda a, x: torch.sqrt(x),
    "Sub": lambda a, x, y: x - y,
    "Transpose": lambda a, x: x.permute(*a["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""What a node does with its attributes and inputs (ONNX operator set 17, as far as the graphs need it)."""

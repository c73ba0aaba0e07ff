"""A booster's trees as arrays, and the ONNX graph that computes their sum bit for bit as XGBoost does; no I/O.

XGBoost starts with the base score's margin and adds one tree after another in float32. The graph does the same: its
first tree is a single leaf with that margin. (A converter that adds the margin at the end rounds otherwise.)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import xgboost as xgb

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

INPUT, OUTPUT = "rows", "margin"
_LEAF = -1


class UnconvertibleModel(ValueError):
    """The booster has something that the graph cannot express."""


@dataclass(frozen=True, kw_only=True)
class Trees:
    """All nodes of a booster of one output, tree after tree; children are numbered within their tree."""

    n_features: int
    base_margin: float
    tree: Integers
    """(k,) number of the node's tree, from 0"""
    node: Integers
    """(k,) the node's own number in it"""
    left: Integers
    """(k,) where a smaller value goes; -1: a leaf"""
    right: Integers
    feature: Integers
    value: Floats
    """(k,) threshold of a split, or weight of a leaf"""
    missing_left: npt.NDArray[np.bool_]

    @property
    def is_leaf(self) -> npt.NDArray[np.bool_]:
        """(k,) whether the node ends a path."""
        leaf: npt.NDArray[np.bool_] = self.left == _LEAF
        return leaf

    def thresholds(self, feature: int) -> Floats:
        """Distinct values that the trees compare the feature with, ascending; empty: it is not read."""
        return np.unique(self.value[~self.is_leaf & (self.feature == feature)])


def read_trees(booster: xgb.Booster) -> Trees:
    """Read the trees of a binary classifier. Raises UnconvertibleModel."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if kind != "gbtree" or objective != "binary:logistic":
        message = f"booster {kind!r} with objective {objective!r}; only 'gbtree' with 'binary:logistic' is converted"
        raise UnconvertibleModel(message)
    base = json.loads(learner["learner_model_param"]["base_score"])
    trees: list[dict[str, Any]] = learner["gradient_booster"]["model"]["trees"]
    if any(1 in tree["split_type"] for tree in trees):
        message = "a split by category; only splits of numbers are converted"
        raise UnconvertibleModel(message)
    sizes = [len(tree["left_children"]) for tree in trees]

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([np.asarray(tree[name]) for tree in trees]) if trees else np.empty(0)

    return Trees(
        n_features=int(learner["learner_model_param"]["num_feature"]),
        base_margin=_margin(float(base[0] if isinstance(base, list) else base)),
        tree=np.repeat(np.arange(len(trees)), sizes),
        node=np.concatenate([np.arange(size) for size in sizes]) if sizes else np.empty(0, dtype=np.int64),
        left=joined("left_children").astype(np.int64),
        right=joined("right_children").astype(np.int64),
        feature=joined("split_indices").astype(np.int64),
        value=joined("split_conditions").astype(np.float32),
        missing_left=joined("default_left").astype(bool),
    )


def _margin(base_score: float) -> float:
    """The margin of a probability, -log(1/p - 1), rounded to float32 where XGBoost rounds."""
    odds = np.float32(1) / np.float32(base_score) - np.float32(1)
    return float(np.float32(-math.log(float(odds))))


def onnx_graph(trees: Trees) -> bytes:
    """Serialized ONNX model: `rows` (n, f) float32 with nan for missing to `margin` (n, 1) float32.

    A split goes left where value < threshold; a missing value where the tree says.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415 -- loaded when a model is

    leaf = np.concatenate([[True], trees.is_leaf])
    tree, node = (np.concatenate([[0], part]) for part in (trees.tree + 1, trees.node))
    value = np.concatenate([np.array([trees.base_margin], dtype=np.float32), trees.value])

    def of_splits(part: npt.NDArray[Any]) -> list[Any]:
        found: list[Any] = np.where(leaf, 0, np.concatenate([[0], part])).tolist()
        return found

    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=tree.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_featureids=of_splits(trees.feature),
        nodes_values=np.where(leaf, np.float32(0), value).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LT").tolist(),
        nodes_truenodeids=of_splits(trees.left),
        nodes_falsenodeids=of_splits(trees.right),
        nodes_missing_value_tracks_true=of_splits(trees.missing_left.astype(np.int64)),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=node[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=value[leaf].tolist(),
    )
    graph = helper.make_graph(
        [ensemble],
        "champion",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, trees.n_features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    content: bytes = model.SerializeToString()
    return content

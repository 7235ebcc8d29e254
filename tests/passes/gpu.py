"""Shared by the tests of what is written for a GPU: the table of kernels has the word."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from fuseonnx.analysis.shapes import annotate
from fuseonnx.core import pipeline
from fuseonnx.core.journal import Journal
from fuseonnx.core.rule import Rule, Stage
from fuseonnx.passes import STAGES
from fuseonnx.placement.graph import read_graph
from fuseonnx.placement.kernels import Kernels
from tests.helpers import Feeds, Rewritten, assert_same_answers, random_feeds
from tests.passes.forms import rewrite_form


def without_cuda_kernel(model: onnx.ModelProto) -> list[str]:
    """Return the operators of the nodes that onnxruntime's CUDA provider has no kernel for."""
    loaded, kernels = ir.from_proto(model), Kernels.load()
    annotate(loaded)
    return [node.op_type for node in read_graph(loaded).nodes if kernels.refuses("cuda", node)]


def assert_moves(
    model: onnx.ModelProto, form: Rule, *, feeds: Feeds | None = None, rtol: float = 1e-5
) -> Rewritten:
    """Assert that the only node without a CUDA kernel is spelt in nodes that have one.

    The answers stay, and no other rewrite undoes it.
    """
    feeds = random_feeds(model) if feeds is None else feeds
    assert len(without_cuda_kernel(model)) == 1
    after = rewrite_form(model, form)
    assert after.fired == {form.name: 1}
    assert without_cuda_kernel(after.model) == []
    assert_same_answers(model, after.model, feeds, rtol)
    assert rewrite_form(after.model, form).fired == {}
    everything = ir.from_proto(model)
    stages = (*STAGES, Stage("for the GPU", (form,)))
    pipeline.run(everything, stages, Journal(), analyse=annotate)
    optimized = ir.to_proto(everything)
    assert without_cuda_kernel(optimized) == []
    assert_same_answers(model, optimized, feeds, rtol)
    return after

"""memory: the operands in CPU memory are those that the operators' own schemas call lengths."""

from __future__ import annotations

import pytest

from fuseonnx.placement.memory import host_inputs


@pytest.mark.parametrize(
    ("operator", "names"),
    [
        ("Attention", {"past_sequence_length"}),
        ("DecoderMaskedMultiHeadAttention", {"past_sequence_length", "beam_width"}),
        ("DecoderMaskedSelfAttention", {"past_sequence_length", "beam_width"}),
        ("GroupQueryAttention", {"total_sequence_length"}),
        ("MultiHeadAttention", {"past_sequence_length"}),
        ("RelativePositionBias", {"query_length", "key_length"}),
        ("SparseAttention", {"total_sequence_length"}),
    ],
)
def test_lengths_are_in_cpu_memory(operator: str, names: set[str]) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    (inputs,) = (
        schema.inputs
        for schema in state.get_all_operator_schema()
        if (schema.domain, schema.name) == ("com.microsoft", operator)
    )
    assert {inputs[position].name for position in host_inputs(operator, "com.microsoft")} == names

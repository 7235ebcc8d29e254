"""The cases of the ONNX backend suite that onnxruntime 1.31 cannot run, or gets wrong, as they are."""

from __future__ import annotations

LISTED_FOR = (1, 31)
"""The onnxruntime that the lists were made with."""

LOCALE_DEPENDENT = frozenset(
    {
        "simple/strnorm_model_monday_casesensintive_lower",
        "simple/strnorm_model_monday_casesensintive_upper",
        "simple/strnorm_model_monday_empty_output",
        "simple/strnorm_model_monday_insensintive_upper_twodim",
        "strnormalizer_export_monday_casesensintive_lower",
        "strnormalizer_export_monday_casesensintive_upper",
        "strnormalizer_export_monday_empty_output",
        "strnormalizer_export_monday_insensintive_upper_twodim",
    }
)
"""StringNormalizer asks the system for the locale en_US, which may be missing: these may fail, or not."""

RANDOM = frozenset(
    {
        "bernoulli",
        "bernoulli_double",
        "bernoulli_double_expanded",
        "bernoulli_expanded",
        "bernoulli_seed",
        "bernoulli_seed_expanded",
        "training_dropout",
        "training_dropout_default",
        "training_dropout_default_mask",
        "training_dropout_mask",
    }
)
"""The answer is random: only types and shapes can be compared."""

FAILS_ON_ONNXRUNTIME: dict[str, frozenset[str]] = {
    "it does not know the operator, or an attribute of it": frozenset(
        {
            "adagrad",
            "adagrad_multiple",
            "adam",
            "adam_multiple",
            "attention_3d_local_window",
            "attention_bidirectional_window",
            "attention_local_window",
            "attention_local_window_default",
            "attention_local_window_ext_cache_float16_mask",
            "attention_local_window_ext_cache_rank2_mask",
            "attention_local_window_ext_cache_rank3_head_mask",
            "attention_local_window_ext_cache_rank4_batch_mask",
            "attention_local_window_gqa_rank4_mask",
            "attention_local_window_rank1_boolean_mask",
            "attention_local_window_with_past",
            "flexattention",
            "flexattention_causal_mask",
            "flexattention_diff_head_sizes",
            "flexattention_double",
            "flexattention_fp16",
            "flexattention_gqa",
            "flexattention_prob_mod",
            "flexattention_relative_positional",
            "flexattention_scaled",
            "flexattention_score_mod",
            "flexattention_soft_cap",
            "momentum",
            "momentum_multiple",
            "nesterov_momentum",
            "simple/gradient_of_add",
            "simple/gradient_of_add_and_mul",
        }
    ),
    "it expands Attention to a graph of mixed types": frozenset(
        {
            "attention_4d_attn_mask_causal_bf16",
            "attention_4d_causal_padded_kv_bf16",
            "attention_4d_padded_kv_bf16",
        }
    ),
    "it gives another answer than the standard": frozenset(
        {
            "attention_4d_causal_fp16",
            "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
            "attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
            "maxunpool_export_with_output_shape",
            "resize_downsample_scales_cubic_align_corners",
            "resize_downsample_scales_linear_align_corners",
        }
    ),
    "it has no kernel for the operator and type on the CPU provider": frozenset(
        {
            "attention_3d_causal_bf16",
            "attention_3d_causal_bf16_expanded",
            "attention_4d_attn_mask_causal_bf16_expanded",
            "attention_4d_causal_bf16",
            "attention_4d_causal_bf16_expanded",
            "attention_4d_causal_padded_kv_bf16_expanded",
            "attention_4d_padded_kv_bf16_expanded",
            "bernoulli",
            "bernoulli_double",
            "bernoulli_double_expanded",
            "bernoulli_expanded",
            "bernoulli_seed",
            "bernoulli_seed_expanded",
            "bitcast_bool_to_uint8",
            "castlike_FLOAT16_to_FLOAT4E2M1",
            "castlike_FLOAT16_to_FLOAT4E2M1_expanded",
            "castlike_FLOAT4E2M1_to_FLOAT",
            "castlike_FLOAT4E2M1_to_FLOAT16",
            "castlike_FLOAT4E2M1_to_FLOAT16_expanded",
            "castlike_FLOAT4E2M1_to_FLOAT_expanded",
            "castlike_FLOAT_to_FLOAT4E2M1",
            "castlike_FLOAT_to_FLOAT4E2M1_expanded",
            "image_decoder_decode_bmp_rgb",
            "image_decoder_decode_jpeg2k_rgb",
            "image_decoder_decode_jpeg_bgr",
            "image_decoder_decode_jpeg_grayscale",
            "image_decoder_decode_jpeg_rgb",
            "image_decoder_decode_png_rgb",
            "image_decoder_decode_pnm_rgb",
            "image_decoder_decode_tiff_rgb",
            "image_decoder_decode_webp_rgb",
            "max_int16",
            "max_uint16",
            "min_int16",
            "min_uint16",
            "pow_types_float32_uint32",
            "pow_types_float32_uint64",
            "pytorch-converted/AvgPool1d",
            "pytorch-converted/AvgPool1d_stride",
            "pytorch-converted/AvgPool2d",
            "pytorch-converted/AvgPool2d_stride",
            "pytorch-converted/AvgPool3d",
            "pytorch-converted/AvgPool3d_stride",
            "pytorch-converted/AvgPool3d_stride1_pad0_gpu_input",
            "pytorch-converted/BatchNorm1d_3d_input_eval",
            "pytorch-converted/BatchNorm2d_eval",
            "pytorch-converted/BatchNorm2d_momentum_eval",
            "pytorch-converted/BatchNorm3d_eval",
            "pytorch-converted/BatchNorm3d_momentum_eval",
            "pytorch-converted/GLU",
            "pytorch-converted/GLU_dim",
            "pytorch-converted/Linear",
            "pytorch-converted/PReLU_1d",
            "pytorch-converted/PReLU_1d_multiparam",
            "pytorch-converted/PReLU_2d",
            "pytorch-converted/PReLU_2d_multiparam",
            "pytorch-converted/PReLU_3d",
            "pytorch-converted/PReLU_3d_multiparam",
            "pytorch-converted/PoissonNLLLLoss_no_reduce",
            "pytorch-converted/Softsign",
            "pytorch-operator/operator_add_broadcast",
            "pytorch-operator/operator_add_size1_broadcast",
            "pytorch-operator/operator_add_size1_right_broadcast",
            "pytorch-operator/operator_add_size1_singleton_broadcast",
            "pytorch-operator/operator_addconstant",
            "pytorch-operator/operator_addmm",
            "pytorch-operator/operator_basic",
            "pytorch-operator/operator_mm",
            "pytorch-operator/operator_non_float_params",
            "pytorch-operator/operator_params",
            "pytorch-operator/operator_pow",
            "roialign_aligned_false",
            "roialign_aligned_true",
            "roialign_mode_max",
            "top_k_uint64",
        }
    ),
    "its kernel does not support the layout, padding, mask or empty input": frozenset(
        {
            "attention_4d_diff_heads_mask4d_padded_kv",
            "convinteger_with_padding",
            "gru_batchwise",
            "lstm_batchwise",
            "reduce_max_empty_set_bool",
            "simple_rnn_batchwise",
        }
    ),
}
"""Reason to names. Models of a newer IR version or opset than onnxruntime knows are not listed."""

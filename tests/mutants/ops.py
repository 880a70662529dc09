"""Of the ops, and of the models on them."""

from tests.mutants import Mutant

LAYOUT, NAIVE, CPP, TRITON = (
    "louder/ops/layout.py",
    "louder/ops/hstu_attention/naive.py",
    "louder/ops/hstu_attention/cpu.cpp",
    "louder/ops/hstu_attention/triton.py",
)
ROWS = "louder/ops/hstu_layer/rows.py"
SOFTMAX, SAMPLED = "louder/ops/softmax_attention/__init__.py", "louder/ops/sampled_softmax/naive.py"
HSTU, TRANSFORMER, SASREC = (f"louder/models/{name}.py" for name in ("hstu", "transformer", "sasrec"))
OF_LAYOUT, OF_MODELS = "tests/ops/test_hstu_layout.py", "tests/models/test_models.py"
OF_ATTENTION, OF_LAYER = "tests/ops/test_hstu_attention.py", "tests/ops/test_hstu_layer.py"
OF_SOFTMAX, OF_SAMPLED = "tests/ops/test_softmax_attention.py", "tests/ops/test_sampled_softmax.py"
IDS, INDEX, OF_IDS = "louder/ops/id_table/__init__.py", "louder/ops/id_table/cpu.cpp", "tests/ops/test_id_table.py"
OF_TRITON = "tests/ops/test_hstu_triton.py -k masks"

MUTANTS = [
    # who sees whom
    Mutant(LAYOUT, "(key >= prefix - window)", "(key > prefix - window)", f"{OF_LAYOUT} -k written_out"),
    Mutant(LAYOUT, "(key < global_prefix)", "(key <= global_prefix)", f"{OF_LAYOUT} -k written_out"),
    Mutant(LAYOUT, "sees = key < prefix\n", "sees = key <= prefix\n", f"{OF_LAYOUT} -k written_out"),
    Mutant(LAYOUT, "return sees | (key == row)", "return sees", f"{OF_LAYOUT} -k written_out"),
    Mutant(LAYOUT, "offsets.diff() - candidates", "offsets.diff()", f"{OF_LAYOUT} -k candidates"),
    Mutant(LAYOUT, "> indices(offsets, keys))", "> indices(offsets, keys) + 1)", f"{OF_LAYOUT} -k named"),
    # the reference implementation
    Mutant(NAIVE, "seconds.abs().clamp(min=1)", "seconds.abs().clamp(min=2)", f"{OF_ATTENTION} -k first_seconds"),
    Mutant(NAIVE, "BUCKET_WIDTH = 0.301", "BUCKET_WIDTH = 0.31", f"{OF_MODELS} -k three_equations"),
    Mutant(NAIVE, "len(position_bias) - 1)", "len(position_bias) - 2)", f"{OF_LAYOUT} -k pair_by_pair"),
    Mutant(
        NAIVE,
        "entries = distances(prefix_lengths[N - M :]",
        "entries = distances(index[N - M :]",
        f"{OF_LAYOUT} -k pair_by_pair",
    ),
    Mutant(NAIVE, "d_scores.sum(0).flatten()", "d_scores.mean(0).flatten()", f"{OF_ATTENTION} -k naive_backward"),
    Mutant(NAIVE, "(1 + scores * (1 - sigmoid))", "(1 - scores * (1 - sigmoid))", f"{OF_ATTENTION} -k float64"),
    Mutant(
        "louder/ops/hstu_attention/__init__.py",
        "ctx.constants = scale, window, global_prefix",
        "ctx.constants = scale, window, 0",
        f"{OF_LAYOUT} -k float64_with_masks",
    ),
    # C++
    Mutant(
        CPP,
        "first <= global_prefix ? 0 : first;",
        "first <= global_prefix ? 0 : first + 1;",
        f"{OF_LAYOUT} -k written_out",
    ),
    Mutant(CPP, "any_to : std::min(any_to, global_prefix)", "any_to : 0", f"{OF_LAYOUT} -k seen_beyond"),
    Mutant(
        CPP,
        "const bool regular = j + columns <= user->regular;",
        "const bool regular = j <= user->regular;",
        f"{OF_LAYOUT} -k all_tables",
    ),
    Mutant(CPP, "p == i && p != last_prefix ? i + 1 : p", "p == i ? i + 1 : p", f"{OF_LAYOUT} -k reordered"),
    # Triton
    Mutant(TRITON, "0, prefix - WINDOW)", "0, prefix - WINDOW + 1)", OF_TRITON),
    Mutant(TRITON, "tl.minimum(first + BLOCK_N + WINDOW, keys)", "tl.minimum(first + WINDOW, keys)", OF_TRITON),
    Mutant(TRITON, "tl.cdiv(GLOBAL_PREFIX, BLOCK_N) * BLOCK_N", "GLOBAL_PREFIX // BLOCK_N * BLOCK_N", OF_TRITON),
    # a layer
    Mutant(ROWS, "y = layer_norm(a) * u", "y = a * u", f"{OF_LAYER} -k without_a_compiler"),
    Mutant(ROWS, "NORM_EPS = 1e-6", "NORM_EPS = 1e-5", f"{OF_LAYER} -k three_equations"),
    Mutant(ROWS, "(grad - mean - normed * along)", "(grad - normed * along)", f"{OF_LAYER} -k without_a_compiler"),
    Mutant(
        ROWS,
        "grad = grad if seed is None else grad * factors(seed, dropout, grad)",
        "grad = grad",
        f"{OF_LAYER} -k implementations",
    ),
    Mutant(
        ROWS,
        "kept_scale(dropout), int(seed))",
        "kept_scale(dropout), 0)",
        f"{OF_LAYER} -k all_lengths",
    ),
    Mutant(
        "louder/ops/hstu_layer/__init__.py",
        "ctx.constants = constants, out_bias.dtype, window, global_prefix",
        "ctx.constants = constants, out_bias.dtype, None, global_prefix",
        f"{OF_LAYER} -k masks",
    ),
    # softmax attention
    Mutant(
        SOFTMAX,
        " and layout.query_offsets is None and layout.window is None",
        " and layout.query_offsets is None",
        f"{OF_SOFTMAX} -k masks_equal",
    ),
    Mutant(
        SOFTMAX,
        "scores = q @ k.transpose(-1, -2) * scale",
        "scores = q @ k.transpose(-1, -2)",
        f"{OF_SOFTMAX} -k dropout_leaves",
    ),
    Mutant(
        SOFTMAX, "is_causal=mask is None, scale=scale", "is_causal=mask is None", f"{OF_SOFTMAX} -k equals_one_user"
    ),
    Mutant(SOFTMAX, "(offsets - query_offsets)[1:]", "(offsets - query_offsets)[:-1]", f"{OF_SOFTMAX} -k masks_equal"),
    # losses and random numbers
    Mutant(SAMPLED, "grad[:, 0] -= 1", "grad[:, 0] -= 0.9", f"{OF_SAMPLED} -k naive_backward"),
    Mutant(SAMPLED, "left_out[:, 0] = False", "left_out[:, 0] = True", f"{OF_SAMPLED} -k naive"),
    Mutant(
        "louder/ops/sampled_softmax/__init__.py",
        "ids.clamp(min=0)[:, None], -scale)",
        "ids.clamp(min=0)[:, None], scale)",
        f"{OF_SAMPLED} -k full_softmax",
    ),
    Mutant(
        "louder/ops/mixture_softmax/naive.py",
        "negative.masked_fill(negatives == targets[:, None], -torch.inf)",
        "negative",
        "tests/ops/test_mixture_softmax.py -k reference",
    ),
    Mutant(
        "louder/ops/mixture_softmax/naive.py",
        "probabilities / probabilities.sum(-1, keepdim=True).clamp(min=EPS)",
        "probabilities",
        "tests/ops/test_mixture_softmax.py",
    ),
    Mutant(
        "louder/ops/random_bits.py",
        "random_bits(seed, first // 2, (count",
        "random_bits(seed, first, (count",
        "tests/ops/test_random_bits.py tests/ops/test_mixture_softmax.py",
    ),
    Mutant(
        "louder/ops/random_bits.py",
        "return 65536 / (65536 - threshold(probability))",
        "return 1 / (1 - probability)",
        "tests/ops/test_random_bits.py",
    ),
    Mutant(
        "louder/ops/dropout/__init__.py",
        "return seeded_dropout(grad, *ctx.constants, *ctx.saved_tensors), None, None",
        "return grad, None, None",
        "tests/ops/test_dropout.py",
    ),
    # models
    Mutant(
        HSTU,
        "return (dropout(x_LD, self.dropout, self.training),)",
        "return (1 * x_LD,)",
        f"{OF_MODELS} -k drops_out_the_input",
    ),
    Mutant(
        HSTU,
        "seed=new_seed() if self.training and config.linear_dropout > 0 else None",
        "seed=None",
        f"{OF_MODELS} -k drops_out_the_gated",
    ),
    Mutant(
        HSTU,
        "self.out(dropout(y, config.linear_dropout, self.training))",
        "self.out(y)",
        f"{OF_MODELS} -k drops_out_the_gated",
    ),
    Mutant(HSTU, "if silu else config.qk_width**-0.5", "if silu else 1.0", f"{OF_MODELS} -k three_equations"),
    Mutant(HSTU, "x_LD = x_LD * self.config.width**0.5", "x_LD = x_LD", f"{OF_MODELS} -k three_equations"),
    Mutant(
        HSTU,
        "positions.clamp(max=self.config.max_len - 1)",
        "positions % self.config.max_len",
        f"{OF_MODELS} -k beyond",
    ),
    Mutant(
        HSTU,
        "_replace(window=config.window, global_prefix=config.global_prefix)",
        "_replace(window=config.window)",
        "tests/models/test_kv_cache.py",
    ),
    Mutant(
        TRANSFORMER,
        "_replace(window=self.config.window, global_prefix=self.config.global_prefix)",
        "_replace()",
        "tests/models/test_kv_cache.py",
    ),
    Mutant(TRANSFORMER, "first * cos - second * sin", "first * cos + second * sin", f"{OF_MODELS} -k its_equations"),
    Mutant(
        TRANSFORMER,
        "self.gate_and_up(self.hidden_norm(x_LD))",
        "self.gate_and_up(self.attention_norm(x_LD))",
        f"{OF_MODELS} -k gradients_reach",
    ),
    Mutant(
        TRANSFORMER,
        "x_LD + dropout(self.out(a.flatten(1)), config.dropout, self.training)",
        "x_LD + self.out(a.flatten(1))",
        f"{OF_MODELS} -k both_branches",
    ),
    Mutant(SASREC, "(self.k, x_LD)", "(self.k, query)", f"{OF_MODELS} -k sasrec_is_its"),
    Mutant(SASREC, "rate = config.dropout if self.training else 0.0", "rate = 0.0", f"{OF_MODELS} -k sasrecs_feed"),
    Mutant(
        "louder/models/flops.py", "token + 1 if token < most", "token if token < most", "tests/models/test_flops.py"
    ),
    Mutant("louder/models/flops.py", "prefix - hidden + 1", "prefix - hidden", "tests/models/test_flops.py"),
    Mutant(
        "louder/models/kv_cache.py",
        "torch.arange(start, end, device=device).clamp(max=history)",
        "torch.arange(start, end, device=device)",
        "tests/models/test_kv_cache.py",
    ),
    # ids that come and go
    Mutant(
        INDEX,
        "< index.distance(hole, at)) continue",
        "<= index.distance(hole, at)) continue",
        f"{OF_IDS} -k to_the_bit",
    ),
    Mutant(INDEX, "whole - (time % half_life < 0)", "whole", f"{OF_IDS} -k to_the_bit"),
    Mutant(IDS, "> self.value(slots, worse", ">= self.value(slots, worse", f"{OF_IDS} -k equals_stay"),
    Mutant(IDS, "old & ~held[tenants]]", "old]", f"{OF_IDS} -k in_flight"),
    Mutant(IDS, "tenants[~held[tenants]]", "tenants", f"{OF_IDS} -k in_flight"),
    Mutant(IDS, "generations.numpy()[slots] += 1", "generations.numpy()[slots] += 0", f"{OF_IDS} -k least_recent"),
    Mutant(IDS, ">= settings.admit_at", "> settings.admit_at", f"{OF_IDS} -k often_enough"),
    Mutant(IDS, "-(-needed // segment) * segment", "needed", f"{OF_IDS} -k whole_segments"),
]

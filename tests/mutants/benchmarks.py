"""Of benchmarks/, experiments/ and louder/results.py."""

from tests.mutants import Mutant

MEASURE = "tests/benchmarks/test_measure.py"
PAGE = "tests/benchmarks/test_benchmark_page.py"
HISTORIES = "tests/benchmarks/test_histories.py"
CASES = "tests/benchmarks/test_cases.py"
GPU = "tests/benchmarks/test_gpu.py -k not(alone)and(not(without))"
TABLES = "tests/test_result_tables.py"
RESULTS = "tests/test_results.py"
EXPERIMENTS = "tests/test_experiments.py"
SCALING = "tests/test_scaling.py"

MUTANTS = [
    Mutant(
        "benchmarks/measure.py",
        "timed(candidate.run, device) / candidate.share",
        "timed(candidate.run, device)",
        MEASURE,
    ),
    Mutant(
        "benchmarks/measure.py", "if needs > self.memory_limit * GIB:", "if needs >= self.memory_limit * GIB:", MEASURE
    ),
    Mutant("benchmarks/measure.py", "statistics.median(times)", "statistics.mean(times)", MEASURE),
    Mutant("benchmarks/measure.py", "case.shape[case.unit] / median", "median / case.shape[case.unit]", MEASURE),
    Mutant(
        "benchmarks/measure.py",
        "return out, *torch.autograd.grad(out, leaves, grad)",
        "return out, *torch.autograd.grad(out, leaves, grad * 0)",
        MEASURE,
    ),
    Mutant(
        "benchmarks/measure.py",
        "peak = max(peak, held)",
        "peak = held",
        f"{CASES}::test_the_padded_op_holds_the_scores_and_ours_does_not",
    ),
    Mutant(
        "benchmarks/measure.py",
        "        if address not in storages and not",
        "        if not",
        f"{CASES}::test_kept_bytes_counts_a_storage_once_and_no_weights",
    ),
    Mutant(
        "benchmarks/rows.py",
        'if RATIOS[row["reference"]] == "speed ×"',
        'if RATIOS[row["reference"]] != "speed ×"',
        MEASURE,
    ),
    Mutant(
        "benchmarks/rows.py",
        "if len({row.get(key) for row in found}) > 1",
        "if len({row.get(key) for row in found}) > 0",
        MEASURE,
    ),
    Mutant("benchmarks/rows.py", '(10, ".1f")', '(9, ".1f")', MEASURE),
    Mutant("benchmarks/rows.py", '"tokens", "dtype", "device", "threads"', '"tokens", "device", "threads"', MEASURE),
    Mutant("benchmarks/rows.py", "    if value >= 100:", "    if value > 100:", MEASURE),
    Mutant("benchmarks/overview.py", "= Span(min(times)", "= Span(max(times)", PAGE),
    Mutant(
        "benchmarks/overview.py", "median(memory for _, memory in pairs)", "max(memory for _, memory in pairs)", PAGE
    ),
    Mutant(
        "benchmarks/overview.py",
        'memory = ratio(row, reference, "peak_bytes") if whole else math.nan',
        'memory = ratio(row, reference, "peak_bytes")',
        PAGE,
    ),
    Mutant(
        "benchmarks/plots.py",
        'if len({row["max_len"] for row in own}) > 1',
        'if len({row["max_len"] for row in own}) > 0',
        PAGE,
    ),
    Mutant("benchmarks/plots.py", "{name: number for name, number in usual.items() if name != axis}", "{}", PAGE),
    Mutant("benchmarks/plots.py", "if after / number >= least", "if after / number > least * 2", PAGE),
    Mutant("benchmarks/histories.py", "1 + len(lengths) % RANKS", "len(lengths) % RANKS or 1", HISTORIES),
    Mutant(
        "benchmarks/histories.py",
        "query_timestamps=torch.from_numpy(times[1:])",
        "query_timestamps=torch.from_numpy(times[:-1])",
        HISTORIES,
    ),
    Mutant("benchmarks/histories.py", "return np.where(kept, given,", "return np.where(~kept, given,", HISTORIES),
    Mutant(
        "benchmarks/padded.py",
        "COLLISION = -5e4",
        "COLLISION = 0.0",
        f"{CASES}::test_losses_equal_their_references_and_the_official_one",
    ),
    Mutant(
        "benchmarks/mfalcon.py",
        "yield *first[:number], value, *first[number + 1 :]",
        "yield *first[:number], value, *first[number:-1]",
        MEASURE,
    ),
    Mutant(
        "benchmarks/etl.py",
        "for _ in range(repeats):\n        for name",
        "for _ in range(repeats - 1):\n        for name",
        MEASURE,
    ),
    Mutant("benchmarks/etl.py", '"peak_bytes": max(peaks)', '"peak_bytes": min(peaks)', MEASURE),
    Mutant("louder/inference/index_speed.py", "/ at_once)", ")", MEASURE),
    Mutant("louder/inference/index_speed.py", "if turn >= 0:", "if True:", MEASURE),
    Mutant(
        "louder/inference/index_speed.py",
        "round(0.99 * (len(ordered) - 1))",
        "round(0.9 * (len(ordered) - 1))",
        MEASURE,
    ),
    Mutant(
        "benchmarks/kernel_check.py",
        "return self.error <= self.tolerance  #",
        "return not self.error > self.tolerance  #",
        GPU,
    ),
    Mutant("benchmarks/kernel_check.py", "exact.abs().max().clamp(min=1)", "exact.abs().max().clamp(max=1)", GPU),
    Mutant(
        "benchmarks/kernel_check.py",
        "list(given.values()), grad.to(out))]",
        "list(given.values())[:3], grad.to(out))]",
        GPU,
    ),
    Mutant("benchmarks/gpu.py", "if not checks or wrong or not whole:", "if wrong or not whole:", GPU),
    Mutant(
        "benchmarks/gpu.py",
        'wrong = [row for row in checks if not row["agrees"]]',
        'wrong = [row for row in checks if row["error"] > row["tolerance"]]',
        GPU,
    ),
    Mutant(
        "benchmarks/gpu.py", "ends += share * PARTS[name].seconds", "ends = start + share * PARTS[name].seconds", GPU
    ),
    Mutant("benchmarks/gpu.py", 'if path is not None and row["device"] != "cpu":', "if path is not None:", GPU),
    Mutant("experiments/tables/lines.py", "statistics.stdev(values)", "statistics.pstdev(values)", TABLES),
    Mutant(
        "experiments/tables/ranking.py",
        'for row in rows_of("generative_ne")[-1:]',
        'for row in rows_of("generative_ne")[:1]',
        TABLES,
    ),
    Mutant("experiments/tables/ranking.py", "best, median = min(tried", "best, median = max(tried", TABLES),
    Mutant(
        "experiments/tables/ranking.py",
        'own.sort(key=lambda row: (row["flops_per_exposure"], row["seed"]))',
        'own.sort(key=lambda row: row["seed"])',
        TABLES,
    ),
    Mutant("experiments/tables/results.py", "and row.source != PAPER", "", TABLES),
    Mutant("experiments/tables/speed.py", "medians[other] / medians[name]", "medians[name] / medians[other]", TABLES),
    Mutant("experiments/tables/serving.py", "for row in reversed(rows) if", "for row in rows if", TABLES),
    Mutant(
        "experiments/search_page.py",
        'itertools.accumulate((row["ne"] for row in own), min)',
        'itertools.accumulate((row["ne"] for row in own), max)',
        TABLES,
    ),
    Mutant("experiments/search_page.py", "int(0.95 * (len(ordered) - 1))", "int(0.99 * (len(ordered)))", EXPERIMENTS),
    Mutant(
        "experiments/generative_to_equal_ne.py",
        'if point["ne"] <= best["ne"]',
        'if point["ne"] < best["ne"]',
        EXPERIMENTS,
    ),
    Mutant(
        "experiments/ranking_search.py", 'random.Random(f"{model} {trial}")', 'random.Random(f"{model}")', EXPERIMENTS
    ),
    Mutant(
        "benchmarks/serving_load.py",
        "        if status == 200:\n            self.good.append(seconds)",
        "        self.good.append(seconds)",
        EXPERIMENTS,
    ),
    Mutant("louder/results.py", "if number < len(lines):", "if number <= len(lines):", RESULTS),
    Mutant("experiments/scaling/points.py", "(x0 + x1) / 2 - first", "(x0 + x1) / 2 + first", f"{SCALING} -k rate_of"),
    Mutant("experiments/scaling/fit.py", "[:, users].mean()", ".mean()", f"{SCALING} -k interval"),
    Mutant("experiments/scaling/fit.py", "or BEYOND in cells:", ":", f"{SCALING} -k prediction"),
    Mutant("experiments/scaling/train.py", "[self.lots :]", "", f"{SCALING} -k stopped"),
    Mutant("experiments/scaling/sizes.py", "2 * (length - 1) * (1 +", "2 * length * (1 +", f"{SCALING} -k operations"),
    Mutant("louder/results.py", "if line.strip()]", "]", RESULTS),
    Mutant("louder/results.py", 'with open(path, "a", encoding', 'with open(path, "w", encoding', RESULTS),
    Mutant("louder/results.py", '"louder", "benchmarks/*.py"', '"louder", "benchmarks"', RESULTS),
    Mutant("louder/results.py", '.removesuffix(".__main__")', "", RESULTS),
]

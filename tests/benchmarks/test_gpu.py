"""python -m benchmarks gpu without a GPU: the check of the kernels in Triton's interpreter, and every part at tiny sizes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, kernel_check
from benchmarks.gpu import PARTS, part_rows, summary
from benchmarks.kernel_check import Comparison, Example, compared, error, examples, outputs, tensors

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
ELSEWHERE = (
    *("pyarrow", "duckdb", "ibis", "pydantic", "typer", "rich", "safetensors", "yaml", "tensorboard", "plotly"),
    *("pandas", "pytest", "fastapi", "faiss"),
)


@pytest.fixture
def alone(tmp_path):
    """An environment whose processes, and theirs, have torch, Triton and numpy and none of what else louder imports."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules.update(dict.fromkeys({ELSEWHERE!r}))")
    return os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}


def command(*words, env=None):
    words = [sys.executable, "-m", "benchmarks", "gpu", *words]
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_kernels_agree_and_every_part_runs_with_torch_triton_and_numpy_alone(alone, tmp_path):
    pytest.importorskip("triton")
    done = command("--interpret", "--json", str(tmp_path / "rows.jsonl"), env=alone)
    assert done.returncode == 0, done.stdout + done.stderr
    number = len([1 for x in examples(kernel_check.TINY).values() if x.dtype != torch.bfloat16])
    number += len([*kernel_check.SOFTMAX, *kernel_check.DROPPED])
    number += len([1 for x in kernel_check.LAYERS.values() if torch.bfloat16 not in x])
    assert f"{number} of {number} checks of kernels agree" in done.stdout
    for name in PARTS:
        assert f"\n{name}: " in done.stdout and f"{name} did not end" not in done.stdout
    assert " ms" not in done.stdout and "×" not in done.stdout  # a speed of the interpreter's would be no speed
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_so():
    done = command()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "No GPU was found. Check the kernels without one: python -m benchmarks gpu --interpret\n"


def test_no_kernel_goes_unchecked():
    folders = sorted(path.parent.name for path in (ROOT / "louder" / "ops").glob("*/triton.py"))
    assert sorted(kernel_check.OPS) == folders


CHECKS = [{"check": name, "error": 1e-6, "tolerance": 1e-5, "agrees": True} for name in ("one", "two")]
ROW = {"case": "a case", "reference": "louder", "device": "A card", "peak_bytes": 1}
ROWS = [{**ROW, "implementation": "louder", "median_s": 0.002}, {**ROW, "implementation": "naive", "median_s": 0.05}]


@pytest.fixture
def card(monkeypatch):
    """A GPU on which every part gives ROWS; returns what the check of the kernels finds there, to be changed."""
    found = {"rows": list(CHECKS), "whole": True, "asked": []}

    def collected(name, interpret, ends, each=lambda row: None):
        found["asked"].append((name, ends))
        if name == "check":
            return found["rows"], found["whole"]
        for row in ROWS:
            each(row)
        return ROWS, name != "loss"

    monkeypatch.setattr(gpu, "collected", collected)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    return found


def test_rows_have_the_card_and_what_was_checked_and_a_screen_sums_them_up(card, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    assert gpu.main(["--json", str(file), "--parts", "loss", "step"]) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["bench"], row["implementation"]) for row in rows] == [
        (bench, name) for bench in ("loss", "step") for name in ("louder", "naive")
    ]
    for row in rows:
        assert (row["device"], row["checked"]) == ("A card", 2)
        assert {"torch", "triton", "commit", "machine", "date", "command"} <= set(row)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "A card: 2 of 2 checks of kernels agree with the reference implementation"
    assert shown[1] == "the largest error is 10.0% of what its type allows (one)"
    assert shown[2].split() == ["loss", "a", "case", "louder", "2.0", "ms", "naive", "25.0", "×"]
    assert "loss did not end" in shown[3]


@pytest.mark.parametrize("error", [1.1e-5, float("nan")])
def test_no_speed_is_told_where_a_kernel_is_wrong(card, tmp_path, capsys, error):
    card["rows"][1] = {"check": "two", "error": error, "tolerance": 1e-5, "agrees": False}
    assert gpu.main(["--json", str(tmp_path / "rows.jsonl")]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 checks" in out and "WRONG  two" in out and "No speed is measured." in out
    assert [name for name, _ in card["asked"]] == ["check"]
    assert not (tmp_path / "rows.jsonl").exists()


def test_no_speed_is_told_where_the_check_did_not_end(card, capsys):
    card["whole"] = False
    assert gpu.main([]) == 1
    assert "the check did not end in time or failed after 'two'" in capsys.readouterr().out
    card["rows"], card["whole"] = [], True  # nothing was checked
    assert gpu.main([]) == 1
    assert [name for name, _ in card["asked"]] == ["check"] * 2


def test_parts_share_the_minutes_and_end_with_them(card):
    start = time.perf_counter()
    gpu.main(["--minutes", "10"])
    ends = [end - start for _, end in card["asked"]]
    assert [name for name, _ in card["asked"]] == ["check", *PARTS]
    assert ends == sorted(ends)
    assert 590 < ends[-1] < 601
    assert ends[0] == pytest.approx(
        600 * gpu.CHECK_SECONDS / (gpu.CHECK_SECONDS + sum(p.seconds for p in PARTS.values())), abs=1
    )


def test_a_part_that_takes_too_long_is_ended(monkeypatch):
    start = time.perf_counter()
    rows, whole = gpu.collected("step", True, start + 0.2)
    assert (rows, whole) == ([], False)
    assert time.perf_counter() - start < 20


def test_rows_are_kept_until_a_part_fails(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "tuning"\necho \'{"case": 1}\'\necho \'{"case": \'\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    came = []
    assert gpu.collected("step", False, time.perf_counter() + 20, came.append) == ([{"case": 1}], False)
    assert came == [{"case": 1}]


def test_speeds_of_a_processor_are_no_rows(tmp_path):
    gpu.keep(tmp_path / "rows.jsonl", {}, {"device": "cpu"})
    gpu.keep(None, {}, {"device": "A card"})
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_summary_skips_what_has_no_reference():
    skipped = [{"case": "b", "implementation": "louder", "reference": "louder", "skipped": "would need 9 GiB"}]
    assert len(summary("loss", ROWS + skipped, told=True)) == 1
    assert summary("loss", ROWS + skipped, told=False) == ["loss: 2 cases ran"]


def test_loss_runs_at_the_sizes_given():
    (sampled, _) = {row["case"]: row for row in part_rows("loss", True)}.values()
    assert (sampled["rows"], sampled["items"], sampled["runs"]) == (6, 9, 1)


# the check itself -------------------------------------------------------------------------------------------------


def test_examples_are_of_all_kinds_and_all_lengths():
    for lengths in kernel_check.TINY, kernel_check.LENGTHS:
        found = examples(lengths)
        assert {x.dtype for x in found.values()} == set(kernel_check.TOLERANCES)
        masks = {name for x in found.values() for name in x.masks}
        assert masks == {"prefix_lengths", "window", "global_prefix"}
        assert 0 in lengths and any(n % 2 for n in lengths)
        for name, x in found.items():
            if x.queries is not None:
                assert all(few <= many for few, many in zip(x.queries, x.lengths)), name
                assert sum(x.queries) < sum(x.lengths)


def test_an_error_is_beside_the_largest_number_and_nan_agrees_with_nothing():
    exact = torch.tensor([8.0, -16.0], dtype=torch.float64)
    assert error(exact.float() + 1e-2, exact) == pytest.approx(1e-2 / 16, rel=1e-3)
    assert error(torch.tensor([0.3]), torch.tensor([0.1], dtype=torch.float64)) == pytest.approx(0.2)
    assert error(torch.zeros(0, 3), torch.zeros(0, 3).double()) == 0
    for wrong in torch.tensor([torch.nan, -16.0]), torch.tensor([8.0]):
        assert not Comparison("", error(wrong, exact), 1.0).agrees
    assert Comparison("", 1e-5, 1e-5).agrees and not Comparison("", 1.1e-5, 1e-5).agrees


def test_the_outputs_and_the_gradients_of_all_inputs_are_compared():
    inputs, masks = tensors(Example([3, 0, 2], queries=[1, 0, 2]))
    assert set(inputs) == {"q", "k", "v", "position_bias", "time_bias"}
    out, *gradients = outputs({name: x.double() for name, x in inputs.items()}, masks, CPU)
    assert out.shape == (3, 2, 24)
    assert [x.shape for x in gradients] == [x.shape for x in inputs.values()]
    assert all(x.abs().sum() > 0 for x in gradients)


def test_a_wrong_kernel_is_seen(monkeypatch):
    """By the op's kernel for processors, in place of Triton's."""
    import contextlib

    monkeypatch.setattr(kernel_check, "by_triton", lambda device: contextlib.nullcontext())
    example = Example([9, 0, 5], dtype=torch.float32)
    assert compared("right", example, CPU).agrees
    right = kernel_check.outputs

    def wrong(inputs, masks, device):
        found = right(inputs, masks, device)
        return found if inputs["q"].dtype == torch.float64 else [*found[:-1], found[-1] * 1.001]

    monkeypatch.setattr(kernel_check, "outputs", wrong)
    assert not compared("the last gradient", example, CPU).agrees


def test_every_example_has_one_size_of_blocks_and_one_example_has_every_size(monkeypatch):
    pytest.importorskip("triton")
    kernels = [SimpleNamespace(configs=[1, 2, 3]), SimpleNamespace(configs=["a", "b"])]
    seen = {}

    def compared(name, example, device):
        seen[name] = [kernel.configs for kernel in kernels]
        return Comparison(name, 0.0, 1.0)

    monkeypatch.setattr(kernel_check, "tuned_kernels", lambda: kernels)
    monkeypatch.setattr(kernel_check, "compared", compared)
    for others in "SOFTMAX", "LAYERS", "DROPPED":
        monkeypatch.setattr(kernel_check, others, {})
    found = [one.name for one in kernel_check.results([3], torch.device("cuda"))]
    assert found == [*examples([3]), "blocks 1", "blocks 2", "blocks 3"]
    assert (seen["blocks 1"], seen["blocks 2"], seen["blocks 3"]) == ([[1], ["a"]], [[2], ["b"]], [[3], ["a"]])
    assert all(seen[name] == [[2], ["a"]] for name in examples([3]))
    assert [kernel.configs for kernel in kernels] == [[1, 2, 3], ["a", "b"]]
    on_cpu = {one.name for one in kernel_check.results([3], CPU)}
    assert on_cpu == {name for name, x in examples([3]).items() if x.dtype != torch.bfloat16}

"""AlpacaEval 2: the package's numbers from local files, nothing written where it should not be, nothing asked twice."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest

from eval.alpaca_eval import world_annotator
from eval.alpaca_eval.annotate import ANNOTATOR, annotate
from eval.alpaca_eval.evaluate import annotator_of, evaluate, is_alpaca_eval, main, pair_outputs
from eval.alpaca_eval.length_control import find_assets, length_controlled, load_package
from eval.judges import Judge
from optune.chat.client import ChatSettings
from optune.config import JudgeConfig
from optune.types import UserError
from optune.utils.files import write_json

N = 36  # too few for the jackknife, which is what takes time
SHARED = Path(__file__).parents[2] / "shared" / "data" / "alpaca_eval"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")


def write_answers(path: Path, texts: list[str], generator: str) -> Path:
    rows = [{"instruction": f"say {i}", "output": text, "generator": generator} for i, text in enumerate(texts)]
    return write_json(path, rows)


class Case:
    """Two files of answers to N instructions and their annotations."""

    def __init__(self, folder: Path):
        rng = np.random.default_rng(3)
        self.folder = folder
        self.base = ["a" * int(n) for n in rng.integers(20, 80, N)]
        self.model = ["b" * int(n) for n in rng.integers(20, 80, N)]
        self.preferences = (1 + rng.beta(1, 3, N)).round(6).tolist()
        self.outputs = write_answers(folder / "o.json", self.model, "model")
        self.reference = write_answers(folder / "r.json", self.base, "base")
        self.annotations = self.annotate()

    def rows(self) -> list[dict[str, Any]]:
        texts = zip(self.base, self.model, self.preferences, strict=True)
        return [
            {"instruction": f"say {i}", "output_1": a, "output_2": b, "preference": p, "annotator": ANNOTATOR}
            for i, (a, b, p) in enumerate(texts)
        ]

    def annotate(self, change: Callable[[list[dict[str, Any]]], Any] = lambda rows: None) -> Path:
        rows = self.rows()
        change(rows)
        return write_json(self.folder / "annotations.json", rows)

    def evaluate(self, **options: Any) -> dict[str, Any]:
        return evaluate(self.outputs, self.reference, options.pop("annotations", self.annotations), **options)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def endpoint(answer: Callable[[str], dict[str, Any]], **settings: Any) -> tuple[Judge, list[str]]:
    """A judge whose choices come from the prompt's text, and the prompts it was asked."""
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["messages"][-1]["content"])
        return httpx2.Response(200, json={"choices": [answer(asked[-1])]})

    return Judge(ChatSettings("some-model", **settings), transport=httpx2.MockTransport(handle)), asked


def choice(**logprobs: float) -> dict[str, Any]:
    tokens = [{"token": token, "logprob": logprob} for token, logprob in logprobs.items()]
    return {
        "message": {"role": "assistant", "content": tokens[0]["token"]},
        "logprobs": {"content": [{**tokens[0], "top_logprobs": tokens}]},
    }


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_recorded_annotations_give_the_win_rate_they_hold(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--outputs", case.outputs, "--reference", case.reference, "--annotations", case.annotations]
    assert main([*map(str, files), "--offline"]) == 0
    result = json.loads(capsys.readouterr().out)
    gains = 100 * (np.array(case.preferences) - 1)
    assert result["win_rate"] == pytest.approx(gains.mean())
    assert result["standard_error"] == pytest.approx(gains.std(ddof=1) / np.sqrt(N))
    assert result["avg_length"] == int(np.mean([len(text) for text in case.model]))
    assert (result["n"], result["unparsed"]) == (N, 0)
    assert result["lc_variant"] == "length_controlled_minimal"
    assert result["length_controlled_winrate"] == pytest.approx(result["win_rate"], abs=5)
    assert result["instructions"] == "own"


def test_order_of_rows_in_the_model_and_annotation_files_changes_no_digit(case: Case) -> None:
    before = case.evaluate()
    write_json(case.outputs, json.loads(case.outputs.read_text())[::-1])
    case.annotate(lambda rows: rows.reverse())
    after = case.evaluate()
    assert {k: v for k, v in before.items() if k != "files"} == {k: v for k, v in after.items() if k != "files"}


def test_longer_outputs_of_equal_quality_do_not_win_after_control() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.integers(50, 150, 200), rng.integers(90, 190, 200)
    preference = 1 + 1 / (1 + np.exp((short - long) / 30.0))  # the annotator likes length and nothing else
    frame = pd.DataFrame(
        {"output_1": ["a" * n for n in short], "output_2": ["b" * n for n in long], "preference": preference}
    )
    result = length_controlled(frame)
    assert preference.mean() > 1.7
    assert result["length_controlled_winrate"] == pytest.approx(50, abs=2)
    assert 0 < result["lc_standard_error"] < 2 and "jackknife" in result["lc_standard_error_method"]


def test_the_variant_follows_from_what_is_known_of_the_instructions(case: Case) -> None:
    difficulty = pd.Series(np.linspace(-2, 2, N))
    frame = pd.DataFrame(case.rows()).assign(preference=1.3 - difficulty / 10)
    # A baseline that wins by length alone: the regularising rows tell the model how much length is worth.
    gamed = pd.concat(
        pd.DataFrame(
            {
                "model": name,
                "index": range(N),
                "instruction_difficulty": difficulty,
                "preference": wins,
                "std_delta_len": gap + difficulty / 10,
                "not_gamed_baseline": False,
            }
        )
        for name, wins, gap in (("concise", 0.2, 2.0), ("verbose", 0.8, -2.0))
    )
    plain, hard, full = (
        length_controlled(frame),
        length_controlled(frame, difficulty),
        length_controlled(frame, gamed=gamed),
    )
    variants = [result["lc_variant"] for result in (plain, hard, full)]
    assert variants == ["length_controlled_minimal", "length_controlled_noreg", "length_controlled_v1"]
    assert "instruction_difficulty" in hard["lc_formula"] and "instruction_difficulty" not in plain["lc_formula"]
    assert "package" in full["lc_standard_error_method"] and plain["lc_standard_error"] is None
    assert len({result["length_controlled_winrate"] for result in (plain, hard, full)}) == 3
    with pytest.raises(UserError, match=f"for {N} instructions, the annotations {N - 1}"):
        length_controlled(frame[:-1], gamed=gamed)


@pytest.mark.parametrize(
    ("preference", "same_length", "reason"),
    [
        ([1.0] * N, False, "certain losses"),
        ([1.0] * (N - 2) + [2.0] * 2, False, "certain losses"),
        ([1.5] * N, True, "length"),
    ],
)
def test_no_model_is_fitted_where_none_can_be(
    case: Case, preference: list[float], same_length: bool, reason: str
) -> None:
    frame = pd.DataFrame(case.rows()).assign(preference=preference)
    if same_length:
        frame["output_2"] = frame["output_1"]
    result = length_controlled(frame)
    assert result["lc_variant"].startswith("none") and reason in result["lc_variant"]
    assert result["length_controlled_winrate"] is None and result["lc_standard_error"] is None


def test_a_model_named_like_the_reference_is_judged_by_its_answers(case: Case) -> None:
    before = case.evaluate()["length_controlled_winrate"]
    write_answers(case.outputs, case.model, "base")
    assert case.evaluate()["length_controlled_winrate"] == before


def test_preferences_that_could_not_be_read_are_counted_and_not_scored(case: Case) -> None:
    def lose(rows: list[dict[str, Any]]) -> None:
        rows[0]["preference"], rows[1]["preference"] = None, -1

    result = case.evaluate(annotations=case.annotate(lose))
    assert (result["n"], result["unparsed"]) == (N - 2, 2)
    assert result["win_rate"] == pytest.approx(100 * (np.mean(case.preferences[2:]) - 1))


# --- bad input -------------------------------------------------------------------------------------------------------


def _duplicate(rows: list[dict[str, Any]]) -> None:
    rows.append(dict(rows[4], preference=1.1))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows.pop(7), r"1 of 36 pairs .* no annotation in .*annotations.json, first that of 'say 7'"),
        (lambda rows: rows[7].update(output_2="other"), "1 of 36 pairs .* first that of 'say 7'"),
        (
            lambda rows: rows[7].update(instruction="sing"),
            "1 of .*annotations.json are not in the outputs, first 'sing'",
        ),
        (lambda rows: rows[7].update(preference=3), "row 8 has the preference 3"),
        (lambda rows: rows[7].update(preference="yes"), "row 8 has the preference .yes"),
        (lambda rows: rows[7].pop("output_1"), "row 8 is no annotation"),
        (lambda rows: rows[7].update(annotator="another"), "different annotators"),
        (_duplicate, "more than once: 'say 4'"),
        (lambda rows: [row.update(preference=None) for row in rows], "None of the 36 preferences could be read"),
        (lambda rows: [row.pop("preference") for row in rows], "no preference"),
    ],
)
def test_annotations_that_do_not_fit_are_told_by_row(
    case: Case, change: Callable[[list[dict[str, Any]]], Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        case.evaluate(annotations=case.annotate(change))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows.pop(3), "1 of .*r.json are not in .*o.json, first 'say 3'"),
        (lambda rows: rows[3].update(instruction="x"), "1 of .*o.json are not in .*r.json, first 'x'"),
        (lambda rows: rows.append(rows[3]), "o.json: 1 instructions stand there more than once, first 'say 3'"),
        (lambda rows: rows[3].update(output=" "), "1 of 36 outputs are empty, first that to 'say 3'"),
        (lambda rows: rows[3].update(output=None), "o.json"),
        (lambda rows: rows.clear(), "o.json"),
    ],
)
def test_answers_that_do_not_match_one_to_one_are_told(
    case: Case, change: Callable[[list[dict[str, Any]]], Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(case.outputs.read_text())
    change(rows)
    write_json(case.outputs, rows)
    with pytest.raises(UserError, match=sentence):
        case.evaluate()
    assert main(["--outputs", str(case.outputs), "--reference", str(case.reference)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_assets_are_refused_for_other_instructions_than_alpaca_evals(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="AlpacaEval's own 805"):
        case.evaluate(assets_folder=tmp_path)


def test_assets_are_found_by_name_and_told_from_the_official_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_assets(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither"):
        find_assets(tmp_path)
    (tmp_path / "df_gamed.mine.csv").write_text("model,index\na,0\n")
    assets = find_assets(tmp_path)
    assert assets.provenance()["df_gamed.csv"]["official"] is False
    assert assets.provenance()["instruction_difficulty.csv"] is None
    with pytest.raises(UserError, match="'instruction_difficulty' is missing"):
        assets.read_gamed()
    (tmp_path / "df_gamed.csv").write_text("")
    with pytest.raises(UserError, match="all match"):
        find_assets(tmp_path)


# --- asking ----------------------------------------------------------------------------------------------------------


def sandbox_case(folder: Path) -> tuple[Path, Path]:
    """Answers of two writers of the sandbox to N of its prompts."""
    from optune.sandbox import OTHERS, TEACHER, prompts

    files = []
    for writer in (OTHERS[0], TEACHER):
        rows = [{"instruction": p.text, "output": writer.write(p)} for p in prompts("validation", N)]
        files.append(write_json(folder / f"{writer.name}.json", rows))
    return files[0], files[1]


def test_sandbox_annotator_leaves_no_trace_but_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import alpaca_eval
    import huggingface_hub
    import sklearn

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    def snapshot() -> set[tuple[str, int]]:
        files = (p for p in Path(alpaca_eval.__file__).parent.rglob("*") if p.suffix != ".pyc")
        return {(str(p), p.stat().st_mtime_ns) for p in files if p.name != "__pycache__" and p.is_file()}

    better, worse = sandbox_case(tmp_path)
    run = tmp_path / "run"
    arguments = ["--outputs", str(better), "--reference", str(worse), "--judge", "sandbox", "--run-dir", str(run)]
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    monkeypatch.chdir(tmp_path)
    glm = load_package("metrics.glm_winrate")
    download, settings, level = glm.hf_hub_download, sklearn.get_config(), logging.getLogger().level
    before, here = snapshot(), set(tmp_path.iterdir())
    assert main(arguments) == 0
    assert snapshot() == before
    assert set(tmp_path.iterdir()) == {*here, run}
    assert (glm.hf_hub_download, sklearn.get_config(), logging.getLogger().level) == (download, settings, level)

    result = json.loads(capsys.readouterr().out)
    assert result["win_rate"] > 55  # the strong writer against the teacher
    assert sum(result["preferences_from"].values()) == N
    lines = (run / "replies.jsonl").read_text().splitlines()
    assert len(lines) == result["preferences_from"]["replies"]

    assert main([*arguments, "--offline"]) == 0  # the replies that are there give the same, and nothing is asked
    assert json.loads(capsys.readouterr().out) == result
    assert (run / "replies.jsonl").read_text().splitlines() == lines
    assert main([*arguments, "--offline", "--run-dir", str(tmp_path / "new")]) == 2
    assert "are not there" in capsys.readouterr().err
    swapped = ["--outputs", str(worse), "--reference", str(better), *arguments[4:]]
    assert main(swapped) == 2
    assert "made with another outputs" in capsys.readouterr().err
    annotated = json.loads((run / "annotations.json").read_text())
    assert {"instruction", "output_1", "output_2", "preference", "annotator", "raw_completion"} <= set(annotated[0])


def test_sandbox_annotator_prefers_better_gold_in_either_place() -> None:
    from eval.judges.sandbox import JudgeNoise, SandboxJudge

    exact = SandboxJudge(JudgeNoise(answer_sd=0, call_rate=0))
    question, right, wrong = "repeat these words : red blue", "sure , red blue .", "green"
    first = world_annotator.log_probabilities(exact, question, right, wrong)
    second = world_annotator.log_probabilities(exact, question, wrong, right)
    assert first["m"] > -0.1 and second["M"] == first["m"]
    assert np.exp(first["m"]) + np.exp(first["M"]) == pytest.approx(1)


def test_outputs_are_swapped_by_the_packages_own_seeded_draw(case: Case) -> None:
    shown_first: dict[str, str] = {}

    def first_always_wins(conversations: list[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        assert parameters == {
            "model": "gpt-4-1106-preview", "max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 5,
        }  # fmt: skip
        for conversation in conversations:
            instruction, first = (conversation[-1]["content"].split('"""')[i] for i in (1, 3))
            shown_first[instruction] = first[0]
        return [choice(m=0.0, M=-30.0)] * len(conversations)

    pairs = pair_outputs(case.outputs, case.reference)
    found = annotate(pairs, first_always_wins)
    expected = [1.0 if shown_first[i] == "a" else 2.0 for i in found["instruction"]]
    assert found["preference"].tolist() == pytest.approx(expected)
    assert 9 < expected.count(1.0) < 27
    assert found["instruction"].tolist() == pairs["instruction"].tolist()


def test_only_what_the_annotation_file_lacks_is_asked(case: Case, tmp_path: Path) -> None:
    def partly(rows: list[dict[str, Any]]) -> None:
        del rows[10:20]
        for row in rows:
            row["annotator"] = f"{ANNOTATOR} (some-model)"

    judge, asked = endpoint(lambda prompt: choice(M=-0.1, m=-2.35))
    result = case.evaluate(annotations=case.annotate(partly), judge=judge, run_dir=tmp_path / "run")
    assert result["preferences_from"] == {"annotation_file": N - 10, "replies": 10, "equal_outputs": 0}
    assert len(asked) == 10
    case.evaluate(judge=judge, run_dir=tmp_path / "run")
    assert len(asked) == 10


def test_without_a_run_directory_replies_are_kept_by_content_and_a_named_cache_is_made(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    judge, asked = endpoint(lambda prompt: choice(M=-0.1, m=-2.35))
    cache = tmp_path / "cache.json"
    first = case.evaluate(annotations=cache, judge=judge)
    written = cache.read_bytes()
    again = case.evaluate(annotations=None, judge=judge)
    recorded = case.evaluate(annotations=cache)
    assert len(asked) == N and len(list((tmp_path / "runs" / "alpaca_eval").iterdir())) == 1
    assert first["win_rate"] == again["win_rate"] == recorded["win_rate"]
    assert recorded["preferences_from"] == {"annotation_file": N} and cache.read_bytes() == written


def test_equal_outputs_are_a_draw_and_cost_nothing(case: Case, tmp_path: Path) -> None:
    write_answers(case.outputs, case.base, "copy")
    judge, asked = endpoint(lambda prompt: choice(m=0.0))
    result = case.evaluate(annotations=None, judge=judge, run_dir=tmp_path / "run")
    assert asked == [] and result["win_rate"] == 50 and result["length_controlled_winrate"] is None


def test_replies_without_the_letters_are_unparsed(case: Case, tmp_path: Path) -> None:
    judge, asked = endpoint(lambda prompt: choice(Both=-0.1) if '"""say 7"""' in prompt else choice(m=-0.5, M=-1.0))
    result = case.evaluate(annotations=None, judge=judge, run_dir=tmp_path / "run")
    assert (len(asked), result["n"], result["unparsed"]) == (N, N - 1, 1)


def test_a_runs_sandbox_judge_becomes_the_annotator_with_log_probabilities(case: Case, tmp_path: Path) -> None:
    judge = annotator_of(JudgeConfig(name="sandbox"))
    assert judge.chat.model == world_annotator.judge().chat.model and judge.transport is not None
    assert annotator_of(JudgeConfig(name="openai", model="gpt-4")).chat.model == "gpt-4"


def test_a_model_without_log_probabilities_is_told_after_one_call(case: Case, tmp_path: Path) -> None:
    judge, asked = endpoint(lambda prompt: {"message": {"role": "assistant", "content": "m"}})
    with pytest.raises(UserError, match="gives no log-probabilities"):
        case.evaluate(annotations=None, judge=judge, run_dir=tmp_path / "run")
    assert len(asked) == 1


def test_a_budget_of_zero_asks_nothing(case: Case, tmp_path: Path) -> None:
    judge, asked = endpoint(lambda prompt: choice(m=0.0), price_in=10.0, price_out=30.0, max_cost=0.0)
    with pytest.raises(UserError, match="budget"):
        case.evaluate(annotations=None, judge=judge, run_dir=tmp_path / "run")
    assert asked == []


# --- real data -------------------------------------------------------------------------------------------------------


@needs_shared
def test_published_annotations_give_the_published_win_rates() -> None:
    result = evaluate(
        SHARED / "outputs_zephyr-7b-sft-full.json",
        SHARED / "reference_outputs_gpt4_1106_preview.json",
        SHARED / "annotations_zephyr-7b-sft-full.json",
        assets_folder=SHARED,
        offline=True,
    )
    assert result["length_controlled_winrate"] == pytest.approx(8.67, abs=0.01)
    assert result["win_rate"] == pytest.approx(4.686269877, abs=1e-8)
    assert (result["n"], result["avg_length"]) == (805, 862)
    assert (result["lc_variant"], result["instructions"]) == ("length_controlled_v1", "AlpacaEval")
    assert [asset["official"] for asset in result["assets"].values()] == [False, False]


@needs_shared
def test_alpaca_evals_instructions_in_another_order_get_no_difficulties(tmp_path: Path) -> None:
    outputs, reference = (
        SHARED / f"{name}.json" for name in ("outputs_zephyr-7b-sft-full", "reference_outputs_gpt4_1106_preview")
    )
    shuffled = write_json(tmp_path / "r.json", json.loads(reference.read_text())[::-1])
    assert is_alpaca_eval(pair_outputs(outputs, reference))
    with pytest.raises(UserError, match="in their order"):
        evaluate(outputs, shuffled, assets_folder=SHARED)


@needs_shared
@pytest.mark.slow
def test_recorded_replies_over_loopback_give_the_recorded_preferences(tmp_path: Path) -> None:
    recorded = json.loads((SHARED / "annotations_zephyr-7b-sft-full.json").read_text())
    replies = {row["instruction"].strip(): row["raw_completion"] for row in recorded}

    class Replay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = body["messages"][-1]["content"]
            instruction = prompt.split('"instruction": """')[1].split('""",\n}\n')[0]
            usage = {"prompt_tokens": 100, "completion_tokens": 1}
            data = json.dumps(
                {"choices": [replies[instruction.strip()]], "model": body["model"], "usage": usage}
            ).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Replay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        result = evaluate(
            SHARED / "outputs_zephyr-7b-sft-full.json",
            SHARED / "reference_outputs_gpt4_1106_preview.json",
            assets_folder=SHARED,
            judge=Judge(ChatSettings("gpt-4-1106-preview", base_url=url)),
            run_dir=tmp_path,
        )
    finally:
        server.shutdown()
        server.server_close()
    found = {row["instruction"]: row["preference"] for row in json.loads((tmp_path / "annotations.json").read_text())}
    # The file was written with ten decimals.
    same = [round(found[row["instruction"]], 10) == row["preference"] for row in recorded]
    assert sum(same) == 805
    assert result["length_controlled_winrate"] == pytest.approx(8.67, abs=0.01)
    assert result["preferences_from"] == {"annotation_file": 0, "replies": 803, "equal_outputs": 2}
    assert result["annotator"] == ANNOTATOR


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.5\n-1.25\n", None),
        ('0.5\n-1.25\n""\n\n', None),
        ('"0,5"\n"-1,25"\n', "with a point"),
        ("0.5\nx\n", "no number"),
    ],
)
def test_a_table_of_difficulties_is_what_it_holds_or_one_sentence(tmp_path: Path, text: str, told: str | None) -> None:
    (tmp_path / "instruction_difficulty.csv").write_bytes(b"\xef\xbb\xbfinstruction_difficulty\n" + text.encode())
    assets = find_assets(tmp_path)
    if told is None:
        assert assets.read_difficulty().tolist() == [0.5, -1.25]
        return
    with pytest.raises(UserError, match=told):
        assets.read_difficulty()

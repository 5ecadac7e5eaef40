"""The `server` engine against endpoints on loopback that answer as vLLM, llama.cpp or a bare OpenAI endpoint do."""

from __future__ import annotations

import json
import math
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from completions_endpoint import EOS, Endpoint, tokens_for

from optune.config import SamplingSettings, ServerConfig, load_config
from optune.generate import ENGINES, PromptsRefused
from optune.generate.prepare import request_seed
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, UserError
from optune.utils.registry import resolve
from optune.utils.worker_processes import free_port

PROMPTS = [Prompt(f"p{i}", text) for i, text in enumerate(["add one and two", "sort cat dog", "list three fruits"] * 4)]


@pytest.fixture(scope="module")
def tokenizer(random_llama):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(random_llama)


@pytest.fixture
def endpoint(random_llama, tokenizer):
    """Starts endpoints that serve the random Llama under its path, unless told otherwise."""
    started = []

    def start(style="vllm", served=None, faults=()):
        server = Endpoint(
            style, served or str(random_llama), lambda ids: tokenizer.decode(ids, skip_special_tokens=True), faults
        )
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def settings(endpoint, server=None, **changes):
    options = {"base_url": endpoint.base_url, "concurrency": 4} | (server or {})
    defaults = {"n": 2, "temperature": 1.0, "top_p": 0.9, "max_new_tokens": 8, "max_prompt_tokens": 32}
    return SamplingSettings(**defaults | changes, server=ServerConfig(**options))


@pytest.fixture(scope="module")
def sample():
    return resolve(ENGINES, "server", "engine")


def test_each_response_is_a_request_with_the_prompts_ids_and_a_seed_of_its_own(
    sample, endpoint, random_llama, tokenizer
):
    server, seen = endpoint(), []
    responses = sample(
        random_llama,
        PROMPTS,
        settings(server),
        seed=3,
        iteration=1,
        on_progress=lambda done, of: seen.append((done, of)),
    )
    ids, _ = encode_prompts(tokenizer, PROMPTS, 32)
    expected = [
        (p.prompt_id, k, tuple(tokens_for(row, request_seed(3, 1, p.prompt_id, k))))
        for p, row in zip(PROMPTS, ids, strict=True)
        for k in range(2)
    ]
    assert [(r.prompt_id, r.index, r.token_ids) for r in responses] == expected
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 24
    assert sorted(seen) == [(done, 24) for done in range(1, 25)]
    body = server.bodies[0]
    assert body["model"] == str(random_llama) and body["stop_token_ids"] == [EOS]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["top_k"]) == (1.0, 0.9, 8, -1)


def test_each_request_asks_for_its_responses_own_temperature(sample, endpoint, random_llama):
    server = endpoint()
    own = settings(server, n=4, temperatures=[1.0, 0.7])
    responses = sample(random_llama, PROMPTS[:3], own, seed=3, iteration=1)
    asked = {body["seed"]: body["temperature"] for body in server.bodies}
    for r in responses:
        assert asked[request_seed(3, 1, r.prompt_id, r.index)] == (1.0, 0.7)[r.index % 2]
        assert (r.logprob is None) == (r.index % 2 == 1)  # at another temperature it is not known


@pytest.mark.parametrize("style", ["vllm", "llama.cpp"])
def test_sampled_ids_and_logprobs_are_taken_where_they_are_given(sample, endpoint, random_llama, tokenizer, style):
    for r in sample(random_llama, PROMPTS[:3], settings(endpoint(style)), seed=0, iteration=0):
        assert r.logprob == -1.5 and not r.retokenized and r.token_ids[-1] == EOS
        assert r.text == tokenizer.decode(r.token_ids, skip_special_tokens=True) and r.finish_reason == "stop"


def test_text_alone_is_tokenised_again_marked_and_has_no_logprob(sample, endpoint, random_llama):
    exact = sample(random_llama, PROMPTS[:3], settings(endpoint("vllm")), seed=0, iteration=0)
    bare = sample(random_llama, PROMPTS[:3], settings(endpoint("bare")), seed=0, iteration=0)
    assert [r.text for r in bare] == [r.text for r in exact]
    assert all(r.retokenized and r.logprob is None and r.token_ids[-1] == EOS for r in bare)


def test_ids_without_their_end_token_are_not_taken_for_whole(tokenizer):
    from optune.generate.server import response_of

    choice = {"text": "cat", "finish_reason": "stop", "token_ids": [7], "logprobs": {"token_logprobs": [-1.0]}}
    r = response_of(choice, "p", 0, 0, tokenizer, {EOS}, 1.0)
    assert r.retokenized and r.logprob is None and r.token_ids[-1] == EOS
    cut = response_of(choice | {"finish_reason": "length"}, "p", 0, 0, tokenizer, {EOS}, 1.0)
    assert cut.token_ids == (7,) and cut.logprob == -1.0 and cut.finish_reason == "length"


def test_at_another_temperature_the_logprob_is_missing(sample, endpoint, random_llama):
    (r, _) = sample(random_llama, PROMPTS[:1], settings(endpoint(), temperature=0.7), seed=0, iteration=0)
    assert r.logprob is None and not r.retokenized


def test_failures_that_pass_are_retried(sample, endpoint, random_llama):
    faults = [(429, {}), (500, {}), (200, b"<html>"), (200, {"choices": []}), (200, {"choices": [{"text": "x"}]})]
    server = endpoint(faults=faults)
    responses = sample(random_llama, PROMPTS[:2], settings(server, server={"concurrency": 1}), seed=0, iteration=0)
    assert len(responses) == 4 and len(server.bodies) == 4 + len(faults)


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ([(400, {"error": {"message": "no such parameter: top_k"}})], "no such parameter: top_k"),
        ([(401, {"error": {"message": "bad key"}})], "bad key"),
        ([(200, b"<html>")] * 4, "no completion that can be read"),
    ],
)
def test_failures_that_stay_are_told_in_a_sentence(sample, endpoint, random_llama, faults, sentence):
    own = settings(endpoint(faults=faults), server={"max_attempts": 2})
    with pytest.raises(UserError, match=sentence):
        sample(random_llama, PROMPTS[:1], own, seed=0, iteration=0)


def test_a_request_that_is_refused_costs_its_prompt_alone(sample, endpoint, random_llama, tmp_path):
    server = endpoint()
    server.refused = {request_seed(0, 0, "p5", 1)}
    own = settings(server, server={"replies": str(tmp_path)})
    for start in range(3):
        with pytest.raises(PromptsRefused, match=r"1 of 12 prompts have no responses.*'p5'.*too strange") as partly:
            sample(random_llama, PROMPTS, own, seed=0, iteration=0)
        assert len(server.bodies) == 24 + start  # nothing that was answered is asked again
    (reason,) = partly.value.reasons
    assert "too strange" in reason and "endpoint" not in reason and partly.value.reasons[reason] == 1
    whole = sample(random_llama, PROMPTS, settings(endpoint()), seed=0, iteration=0)
    assert partly.value.responses == [r for r in whole if r.prompt_id != "p5"]
    server.refused = set()
    assert sample(random_llama, PROMPTS, own, seed=0, iteration=0) == whole and len(server.bodies) == 27


@pytest.mark.parametrize("status", [500, 429, 200])
def test_a_request_that_fails_is_asked_again_by_the_next_start_and_then_given_up(
    sample, endpoint, random_llama, tmp_path, status
):
    """An outage stops the run, with all that was answered kept; a request that never works stops it only once."""
    server = endpoint()
    server.refused, server.status = {request_seed(0, 0, "p5", 1)}, status
    own = settings(server, server={"replies": str(tmp_path), "max_attempts": 1})
    with pytest.raises(UserError, match=r"1 of 24 requests failed.*'p5', response 1.*other 23 are kept") as failed:
        sample(random_llama, PROMPTS, own, seed=0, iteration=0)
    assert not isinstance(failed.value, PromptsRefused) and len(server.bodies) == 24
    with pytest.raises(PromptsRefused) as partly:
        sample(random_llama, PROMPTS, own, seed=0, iteration=0)
    assert len(partly.value.responses) == 22 and len(server.bodies) == 25


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"message": "flagged by moderation", "code": 403}}, "flagged"),
        ({"choices": [{"text": "a", "finish_reason": "content_filter"}]}, "content filter"),
        ({"choices": [{"text": "a", "finish_reason": "stop", "error": {"message": "no", "code": 400}}]}, "no"),
    ],
)
def test_a_completion_that_says_it_is_none_is_not_asked_again(sample, endpoint, random_llama, body, told):
    server = endpoint(faults=[(200, body)])
    with pytest.raises(PromptsRefused, match=told) as partly:
        sample(random_llama, PROMPTS[:3], settings(server), seed=0, iteration=0)
    assert len(server.bodies) == 6 and len(partly.value.responses) == 4


@pytest.mark.parametrize("last", [401, 404])
def test_what_was_answered_before_the_endpoint_gave_out_is_kept(sample, endpoint, random_llama, tmp_path, last):
    server = endpoint()
    own = settings(server, server={"replies": str(tmp_path), "concurrency": 1})

    def stop(done, of):
        server.faults = [(last, {})] if done == 10 else []

    with pytest.raises(UserError, match="does not answer as it should"):
        sample(random_llama, PROMPTS, own, seed=0, iteration=0, on_progress=stop)
    assert len(server.bodies) == 11
    assert len(sample(random_llama, PROMPTS, own, seed=0, iteration=0)) == 24
    assert len(server.bodies) == 11 + 14


@pytest.fixture
def every_policy(monkeypatch):
    """Endpoints here serve one name; these runs take it for whatever policy they have."""
    import optune.generate.server

    async def served(api, model, server):
        return model

    monkeypatch.setattr(optune.generate.server, "_served_name", served)


def run_on(server, config, **changes):
    options = {"generation.engine": "server", "generation.server": {"base_url": server.base_url, "max_attempts": 1}}
    return config.with_overrides({**options, "iterations": 1, "prompts.limit": 8, **changes})


def test_a_run_keeps_responses_beside_its_stages(endpoint, config, every_policy, tmp_path):
    from optune.loop.algorithm import run_optune

    server = endpoint(faults=[(500, {"error": {"message": "out of luck"}})])
    with pytest.raises(UserError, match=r"1 of 16 requests failed.*out of luck.*other 15 are kept"):
        run_optune(run_on(server, config), tmp_path / "run")
    assert len(server.bodies) == 16
    server.faults = [(500, {"error": {"message": "still"}})]
    run_optune(run_on(server, config), tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]
    generated = [stage["counts"] for stage in kept if stage["stage"] == "generate"]
    assert generated[0]["responses"] == 14 and sum(generated[0]["refused"].values()) == 1


def test_a_prompt_that_is_always_refused_is_left_out_counted_and_audited(endpoint, config, every_policy, tmp_path):
    from optune.finished.audit import audit_run
    from optune.loop.algorithm import run_optune
    from optune.view.page import write_page

    server = endpoint()
    asked = run_on(server, config)
    known = run_optune(asked, tmp_path / "known").history.frame["prompt_id"].unique()
    server.refused_prompts = {tuple(server.bodies[0]["prompt"])}
    result = run_optune(asked, tmp_path / "run")
    assert len(set(result.history.frame["prompt_id"])) == len(known) - 1
    counts = [stage["counts"] for stage in result.stages if "refused" in stage["counts"]]
    assert counts and all(sum(c["refused"].values()) == 1 and "too strange" in str(c) for c in counts)
    audit = audit_run(tmp_path / "run")
    assert audit.finished and not audit.problems
    write_page([tmp_path / "run"], tmp_path / "view.html")


def test_an_endpoint_where_every_request_fails_is_left_soon(sample, endpoint, random_llama):
    server = endpoint(faults=[(400, {"error": {"message": "max_tokens is unknown"}})] * 24)
    with pytest.raises(UserError, match=r"max_tokens is unknown.*16 requests in a row"):
        sample(random_llama, PROMPTS, settings(server, server={"concurrency": 1}), seed=0, iteration=0)
    assert len(server.bodies) == 16


def test_rows_without_a_logprob_or_with_ids_that_are_none_are_no_logprob(sample, endpoint, random_llama, tokenizer):
    from optune.generate.server import response_of

    for r in sample(random_llama, PROMPTS[:2], settings(endpoint("sglang")), seed=0, iteration=0):
        assert r.retokenized and r.logprob is None
    choice = {"text": "cat", "finish_reason": "stop"}
    for ids in (["7", "1"], [7, 99999, EOS], [7, None, EOS], 7):
        assert response_of({**choice, "token_ids": ids}, "p", 0, 0, tokenizer, {EOS}, 1.0).retokenized
    nulls = {**choice, "token_ids": [7, EOS], "logprobs": {"token_logprobs": [None, None]}}
    assert response_of(nulls, "p", 0, 0, tokenizer, {EOS}, 1.0).logprob is None


def test_an_address_without_v1_is_told(sample, random_llama):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Nothing", (BaseHTTPRequestHandler,), {"do_GET": nothing_here}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(UserError, match=f"lacks /v1: try {base}/v1"):
        sample(random_llama, PROMPTS[:1], settings(SimpleNamespace(base_url=base)), seed=0, iteration=0)
    server.shutdown()
    server.server_close()


def nothing_here(handler):
    handler.log_message = lambda *_: None
    handler.send_error(404)


def test_an_endpoint_of_another_model_is_refused_before_anything_is_sampled(sample, endpoint, random_llama):
    server = endpoint(served="some/other-model")
    with pytest.raises(UserError, match="serves some/other-model, not"):
        sample(random_llama, PROMPTS, settings(server), seed=0, iteration=0)
    assert not server.bodies
    named = settings(server, server={"model": "some/other-model"})
    assert len(sample(random_llama, PROMPTS[:1], named, seed=0, iteration=0)) == 2


def test_an_endpoint_that_is_not_there_is_told(sample, random_llama):
    nowhere = SimpleNamespace(base_url="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/v1 does not answer"):
        sample(random_llama, PROMPTS, settings(nowhere, server={"max_attempts": 1}), seed=0, iteration=0)


def test_parameters_of_ones_own_are_sent_and_null_leaves_one_of_ours_out(sample, endpoint, random_llama):
    server = endpoint()
    own = settings(server, server={"parameters": {"top_k": None, "mirostat": 0}})
    sample(random_llama, PROMPTS[:1], own, seed=0, iteration=0)
    assert "top_k" not in server.bodies[0] and server.bodies[0]["mirostat"] == 0


def test_a_command_starts_an_endpoint_for_the_policy_and_ends_it(sample, random_llama):
    import socket

    port = free_port()
    command = f"{sys.executable} {Path(__file__).with_name('completions_endpoint.py')} {port} {{model}}"
    own = SimpleNamespace(base_url=f"http://127.0.0.1:{port}/v1")
    responses = sample(random_llama, PROMPTS[:2], settings(own, server={"command": command}), seed=0, iteration=0)
    assert len(responses) == 4 and all(math.isclose(r.logprob, -1.5) for r in responses)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("command", "sentence"),
    [("false", r"ended with status 1 \(it said nothing\); its log is"), ("no-such-program", "cannot be started")],
)
def test_a_command_that_fails_is_told(sample, random_llama, command, sentence):
    own = settings(SimpleNamespace(base_url="http://127.0.0.1:9/v1"), server={"command": command})
    with pytest.raises(UserError, match=sentence):
        sample(random_llama, PROMPTS, own, seed=0, iteration=0)


def test_a_command_is_not_run_where_an_endpoint_answers_already(sample, endpoint, random_llama):
    with pytest.raises(UserError, match="answers already"):
        sample(random_llama, PROMPTS, settings(endpoint(), server={"command": "false"}), seed=0, iteration=0)


def test_one_fixed_model_cannot_follow_the_policy():
    with pytest.raises(UserError, match="every iteration samples from another policy"):
        load_config("nano", overrides=["generation.engine=server", "generation.server.model=policy"])


def test_answers_that_came_are_kept_and_a_prompt_without_one_is_told(endpoint, random_llama, tmp_path, capsys):
    from eval.outputs import main

    server, out = endpoint(faults=[(500, {})]), tmp_path / "o.json"
    (tmp_path / "p.json").write_text(json.dumps([{"instruction": p.text, "prompt_id": p.prompt_id} for p in PROMPTS]))
    options = ["--engine", "server", "--base-url", server.base_url, "--set", "server.max_attempts=1"]
    argv = ["--model", str(random_llama), "--prompts", str(tmp_path / "p.json"), "--out", str(out), *options]
    assert main(argv) == 2 and not out.exists()
    assert "1 of 12 requests failed" in capsys.readouterr().err and len(server.bodies) == 12
    server.faults = [(400, {"error": {"message": "too strange"}})]
    assert main(argv) == 0 and len(server.bodies) == 13
    assert len(json.loads(out.read_text())) == 11 and not list(tmp_path.glob("*.replies"))
    told = capsys.readouterr().err
    assert "too strange" in told and "11 of 12 prompts have an answer" in told

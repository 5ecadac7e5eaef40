"""A small wheel like a packaged model's, the GGUF file in it, and a package index that breaks off downloads."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from optune.packaged_models.catalogue import PackagedModel

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def wheel_of(gguf: bytes, folder: Path) -> PackagedModel:
    """Write a wheel with `gguf` in it into `folder`, and describe it as the catalogue does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model-0.1-py3-none-any.whl"
    info = "tiny_model-0.1.dist-info"
    files = {
        "tiny_model/tiny.gguf": gguf,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\nRequires-Dist: not-to-be-had\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # one date, so one hash however often it is made
    return PackagedModel(
        name="tiny",
        distribution="tiny-model",
        version="0.1",
        wheel=path.name,
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        wheel_bytes=path.stat().st_size,
        member="tiny_model/tiny.gguf",
        gguf_sha256=hashlib.sha256(gguf).hexdigest(),
        hub_name="someone/tiny",
        individual_digits=True,
    )


def tiny_gguf(path: Path) -> bytes:
    """A one-layer Llama with random weights, whose tokens are bytes and whose end token is its padding."""
    import gguf
    import numpy as np
    from tokenizers import pre_tokenizers

    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens.append("ĊĊ")  # two line breaks
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(0)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (len(tokens), 64), **{f"blk.0.{name}": (64, 64) for name in square}}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(0, 0.1, shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


class TornIndex:
    """A package index on this machine that breaks off every wheel in its middle; `with` starts and stops it."""

    def __init__(self, wheel: Path):
        content, name = wheel.read_bytes(), wheel.name

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = f'<a href="/{name}">{name}</a>'.encode()
                whole = content if self.path.endswith(".whl") else page
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(whole)))
                self.end_headers()
                self.wfile.write(whole if whole is page else whole[: len(whole) // 2])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"

    def __enter__(self) -> TornIndex:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

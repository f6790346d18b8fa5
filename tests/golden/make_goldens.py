#!/usr/bin/env python3
"""Makes smollm2_goldens.json: what `transformers` computes in fp32 with the default model's weights.

    make_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf smollm2_goldens.json

Needs torch 2.11.0, transformers 5.23.0, gguf 0.19.0 and numpy 2.4.6. The weights are dequantised with
the `gguf` package and loaded into LlamaForCausalLM; nothing of Perpend takes part. Of each prompt the
file holds its token ids, for each position logsumexp, the likeliest token and every LOGIT_STEP-th logit,
more logits of the last position, and 64 greedily chosen tokens with the smallest lead that one of them
had over the second best.
"""

import json
import pathlib
import sys

import gguf
import torch
import transformers

LOGIT_STEP = 3001
LAST_LOGIT_STEP = 211
NEW_TOKENS = 64
# A lead that f32 sums in another order can not overturn.
SMALLEST_LEAD = 2e-3


def field(reader, name):
    return reader.get_field(name).contents()


def half_split(rows, num_heads):
    """Rows of q or k from GGUF's order (neighbouring pairs rotate) to that of transformers (halves)."""
    head_dim = rows.shape[0] // num_heads
    return rows.reshape(num_heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def model_config(reader):
    return transformers.LlamaConfig(
        vocab_size=len(field(reader, "tokenizer.ggml.tokens")),
        hidden_size=field(reader, "llama.embedding_length"),
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=field(reader, "llama.attention.head_count"),
        num_key_value_heads=field(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=field(reader, "llama.context_length"),
        rms_norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field(reader, "llama.rope.freq_base")},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )


NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_model(reader):
    config = model_config(reader)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] in heads:
                values = half_split(values, heads[parts[2]])
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        state[name] = torch.from_numpy(values.copy()).float()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.LlamaForCausalLM(config).float().eval()
    model.load_state_dict(state)
    return model


def rounded(values):
    return [float(f"{value:.7g}") for value in values.tolist()]


def greedy(model, ids):
    tokens, leads, cache, step = [], [], None, torch.tensor([ids])
    for _ in range(NEW_TOKENS):
        output = model(step, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        best = output.logits[0, -1].topk(2)
        leads.append(float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
        step = best.indices[:1].reshape(1, 1)
    return tokens, min(leads)


def golden(model, tokenizer, prompt):
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    logits = model(torch.tensor([ids])).logits[0]
    tokens, lead = greedy(model, ids)
    if lead < SMALLEST_LEAD:
        sys.exit(f"the greedy choice after {prompt!r} is a tie ({lead:.2g}): take another prompt")
    return {
        "prompt": prompt,
        "ids": ids,
        "logsumexp": rounded(logits.logsumexp(-1)),
        "top1": logits.argmax(-1).tolist(),
        "logits": [rounded(row[::LOGIT_STEP]) for row in logits],
        "last_logits": rounded(logits[-1, ::LAST_LOGIT_STEP]),
        "greedy": tokens,
        "smallest_lead": round(lead, 6),
    }


@torch.inference_mode()
def main(model_path, out_path):
    model_path = pathlib.Path(model_path)
    reader = gguf.GGUFReader(model_path)
    model = load_model(reader)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path.parent, gguf_file=model_path.name)
    prompts = json.loads((pathlib.Path(__file__).parent / "prompts.json").read_text())
    goldens = []
    for prompt in prompts:
        goldens.append(golden(model, tokenizer, prompt))
        print(f"{len(goldens)}/{len(prompts)} lead {goldens[-1]['smallest_lead']} {prompt[:50]!r}")
    document = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "logit_step": LOGIT_STEP,
        "last_logit_step": LAST_LOGIT_STEP,
        "goldens": goldens,
    }
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in goldens)
    head = json.dumps({**document, "goldens": []}, indent=1)
    pathlib.Path(out_path).write_text(head.replace('"goldens": []', f'"goldens": [\n{lines}\n]') + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Several documents packed into one sequence: each token sees its own document only, and no padding is computed."""

import torch

import perpend

lengths = [300, 17, 512, 195]
total = sum(lengths)
q, k, v = torch.randn(3, 1, 4, total, 64)

# Lengths as text, good for a model's configuration ...
o = perpend.attention(q, k, v, "causal & same(doc)", labels={"doc": f"segments({', '.join(map(str, lengths))})"})

# ... or the document of each token as a tensor, as a data loader has it.
document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
assert torch.equal(o, perpend.attention(q, k, v, "causal & same(doc)", labels={"doc": document}))

# The same as a ragged batch, tokens first: no packing, no mask.
tokens = [x[0].transpose(0, 1) for x in (q, k, v)]
indptr = torch.tensor([0, *lengths]).cumsum(0)
ragged = perpend.attention(*tokens, "causal", q_indptr=indptr, kv_indptr=indptr)
assert torch.allclose(ragged.transpose(0, 1)[None], o, atol=1e-5)

plan = perpend.plan("causal & same(doc)", total, labels={"doc": document})
print(f"{len(lengths)} documents, {plan.density:.1%} of all pairs live, planned in {plan.plan_ms:.2f} ms")

"""Attention of a Perpend build on PyTorch's CUDA tensors, through bench/gpu/attention_library.cpp."""

import ctypes
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Problem(ctypes.Structure):
    _fields_ = [("batch", ctypes.c_int64), ("tokens", ctypes.c_int64), ("head_dim", ctypes.c_int64),
                ("num_q_heads", ctypes.c_int), ("num_kv_heads", ctypes.c_int), ("is_f16", ctypes.c_int),
                ("deterministic", ctypes.c_int), ("in_turns", ctypes.c_int)]


class Operands(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in (
        "q", "k", "v", "o", "lse", "stream", "d_o", "dq", "dk", "dv")]


class Cost(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("plan_ms", "live_pairs", "computed_pairs")] + [
        (name, ctypes.c_int64) for name in ("items", "full_tiles", "partial_tiles", "half_skipped", "gathered")]


class DecodeProblem(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in (
        "batch", "q_len", "kv_len", "num_pages", "page_size", "head_dim")] + [
        (name, ctypes.c_int) for name in ("num_q_heads", "num_kv_heads", "is_f16")]


class DecodeOperands(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("q", "k", "v", "o", "lse", "page_table", "stream")]


class Library:
    def __init__(self, build: str):
        folder = pathlib.Path(build) if pathlib.Path(build).is_absolute() else ROOT / build
        self.lib = ctypes.CDLL(str(folder / "bench" / "gpu" / "libperpend_attention.so"))
        self.lib.perpend_error.restype = ctypes.c_char_p
        self.lib.perpend_free_plan.argtypes = [ctypes.c_void_p]
        self.lib.perpend_free_decode_plan.argtypes = [ctypes.c_void_p]

    def check(self, status: int) -> None:
        if status:
            raise RuntimeError(self.lib.perpend_error().decode())

    def clocks(self):
        """The clock of each multiprocessor at this point of the current stream, int64 on the GPU."""
        import torch
        clocks = torch.zeros(torch.cuda.get_device_properties("cuda").multi_processor_count, dtype=torch.int64,
                             device="cuda")
        if self.lib.perpend_read_clocks(ctypes.c_void_p(clocks.data_ptr()),
                                        ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)):
            raise RuntimeError("the kernel that reads clocks was not launched")
        return clocks


class Plan:
    """A planned call; run(q, k, v) gives (o, lse) for tensors [batch, heads, tokens, head_dim]."""

    def __init__(self, library: Library, mask: str, labels: str, q, k):
        import torch
        self.torch, self.library = torch, library
        self.problem = Problem(q.shape[0], q.shape[2], q.shape[3], q.shape[1], k.shape[1], q.dtype == torch.float16, 1)
        self.handle = ctypes.c_void_p()
        library.check(library.lib.perpend_plan(ctypes.byref(self.problem), mask.encode(), labels.encode(),
                                               ctypes.byref(self.handle)))
        self.cost = Cost()
        library.lib.perpend_cost(self.handle, ctypes.byref(self.cost))
        self.o = torch.empty_like(q)
        self.lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)

    def __del__(self):
        if getattr(self, "handle", None):
            self.library.lib.perpend_free_plan(self.handle)

    def operands(self, q, k, v, *gradients):
        pointers = [tensor.data_ptr() for tensor in (q, k, v, self.o, self.lse)]
        return Operands(*pointers, self.torch.cuda.current_stream().cuda_stream, *(g.data_ptr() for g in gradients))

    def run(self, q, k, v):
        operands = self.operands(q, k, v)
        self.library.check(self.library.lib.perpend_forward(self.handle, ctypes.byref(self.problem),
                                                            ctypes.byref(operands)))
        return self.o, self.lse

    def backward(self, q, k, v, d_o, dq, dk, dv, deterministic=True, in_turns=False):
        """After run(); writes dq, dk and dv."""
        self.problem.deterministic = deterministic
        self.problem.in_turns = in_turns
        operands = self.operands(q, k, v, d_o, dq, dk, dv)
        self.library.check(self.library.lib.perpend_backward(self.handle, ctypes.byref(self.problem),
                                                             ctypes.byref(operands)))


class DecodePlan:
    """Attention of a step of a decode loop over pages [num_pages, num_kv_heads, page_size, head_dim]."""

    def __init__(self, library: Library, mask: str, kv_len: int, q, k, v, page_table):
        """q: [batch, q_len, num_q_heads, head_dim], the last positions of kv_len; page_table: [batch, pages] i32."""
        import torch
        self.torch, self.library, self.mask = torch, library, mask.encode()
        self.problem = DecodeProblem(q.shape[0], q.shape[1], kv_len, k.shape[0], k.shape[2], q.shape[3], q.shape[2],
                                     k.shape[1], q.dtype == torch.float16)
        self.q, self.k, self.v, self.page_table = q, k, v, page_table
        self.o = torch.full_like(q, float("nan"))
        self.lse = torch.full((q.shape[0], q.shape[2], q.shape[1]), float("nan"), device=q.device)
        self.handle = ctypes.c_void_p()
        library.check(library.lib.perpend_decode_plan(ctypes.byref(self.problem), self.mask, self.stream(),
                                                      ctypes.byref(self.handle)))

    def __del__(self):
        if getattr(self, "handle", None):
            self.library.lib.perpend_free_decode_plan(self.handle)

    def stream(self):
        return ctypes.c_void_p(self.torch.cuda.current_stream().cuda_stream)

    def update(self, apart: int) -> float:
        """Plans a step again, of sequences each `apart` keys shorter than the one before; what that took on the
        host, in milliseconds."""
        ms = ctypes.c_double()
        self.library.check(self.library.lib.perpend_decode_update(self.handle, ctypes.byref(self.problem), self.mask,
                                                                  apart, self.stream(), ctypes.byref(ms)))
        return ms.value

    def run(self):
        pointers = [x.data_ptr() for x in (self.q, self.k, self.v, self.o, self.lse, self.page_table)]
        operands = DecodeOperands(*pointers, self.stream())
        self.library.check(self.library.lib.perpend_decode(self.handle, ctypes.byref(self.problem),
                                                           ctypes.byref(operands)))
        return self.o

"""perpend.attention() on several streams, threads and GPUs."""

import threading
import unittest

import torch

import cuda_case
import perpend
from cuda_case import CudaCase, operands

SLEEP_CYCLES = 50_000_000  # some 30 ms


class CudaStreamsTest(CudaCase):
    def test_runs_on_the_current_stream(self):
        q, k, v = operands((500, 500))
        d_o = torch.randn_like(q)

        def step(q, k, v, d_o):
            o = perpend.attention(q, k, v, "causal")
            return o, *torch.autograd.grad(o, (q, k, v), d_o)

        expected = step(q, k, v, d_o)
        late = [torch.zeros_like(x, requires_grad=True) for x in (q, k, v)]
        late_d_o = torch.zeros_like(d_o)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(SLEEP_CYCLES)
            with torch.no_grad():
                for x, y in zip((*late, late_d_o), (q, k, v, d_o)):
                    x.copy_(y)
            found = step(*late, late_d_o)
            self.assertTrue(all(torch.equal(x, y) for x, y in zip(found, expected)))

    def test_does_not_wait_for_the_gpu(self):
        q, k, v = operands((500, 500))

        def step():
            return torch.autograd.grad(perpend.attention(q, k, v, "causal").sum(), (q, k, v))

        step()
        torch.cuda.synchronize()
        torch.cuda._sleep(20 * SLEEP_CYCLES)
        done = torch.cuda.Event()
        step()
        done.record()
        self.assertFalse(done.query())
        torch.cuda.synchronize()

    def test_several_streams_share_a_plan_and_memory(self):
        pairs = [operands((700, 700)), operands((700, 700), dim=128)]
        expected = [self.gradients(*x) for x in pairs]
        streams = [torch.cuda.Stream() for _ in range(4)]
        torch.cuda.synchronize()
        found = []
        for i in range(40):
            with torch.cuda.stream(streams[i % 4]):
                found.append((i % 2, self.gradients(*pairs[i % 2])))
        torch.cuda.synchronize()
        for which, outputs in found:
            self.assertTrue(all(torch.equal(x, y) for x, y in zip(outputs, expected[which])))

    def test_working_memory_is_what_torch_keeps_unused(self):
        shape = (1, 32, 16384, 130)
        q = torch.randn(shape, device="cuda", dtype=torch.bfloat16)[..., 1:129].requires_grad_()  # must be copied
        bytes_of_copy = q.numel() * q.element_size()
        o = perpend.attention(q, q, q, "window(64)")
        d_o = torch.randn(shape, device="cuda", dtype=torch.bfloat16)[..., 1:129]
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        kept = torch.empty(torch.cuda.mem_get_info()[0] - bytes_of_copy // 2, dtype=torch.uint8, device="cuda")
        del kept  # kept by torch: of CUDA's own there is less left than one copy
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        gradients = torch.autograd.grad(o, q, d_o)
        used = torch.cuda.max_memory_allocated() - before
        self.assertGreater(used, 6 * bytes_of_copy)  # four copies and the gradients of q, k and v
        self.assertLess(torch.cuda.memory_allocated() - before, 2 * bytes_of_copy)
        del gradients
        torch.cuda.empty_cache()

    def test_several_threads(self):
        inputs = operands((400, 400))
        masks = [f"causal & window({n})" for n in range(20, 100)]  # more than the caches keep
        expected = {mask: self.gradients(*inputs, mask) for mask in masks}
        torch.cuda.synchronize()
        faults = []

        def work(seed, stream):
            try:
                with torch.cuda.stream(stream):
                    for i in range(60):
                        mask = masks[(seed * 31 + i * 7) % len(masks)]
                        found = self.gradients(*inputs, mask)
                        if not all(torch.equal(x, y) for x, y in zip(found, expected[mask])):
                            faults.append(mask)
            except Exception as error:  # noqa: BLE001, told by the thread that waits
                faults.append(error)

        threads = [threading.Thread(target=work, args=(i, torch.cuda.Stream())) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])

    def test_eager_calls_beside_a_capture(self):
        inputs = operands((400, 400))
        masks = [f"causal & window({n})" for n in range(100, 180)]
        stop = threading.Event()
        faults = []

        def work():
            try:
                with torch.cuda.stream(torch.cuda.Stream()):
                    i = 0
                    while not stop.is_set():  # plans come and go, and with them memory of the GPU
                        perpend.attention(*inputs, masks[i % len(masks)])
                        i += 1
            except Exception as error:  # noqa: BLE001, told by the thread that waits
                faults.append(error)

        q = torch.randn(2, 4, 400, 64, device="cuda").bfloat16()
        worker = threading.Thread(target=work)
        worker.start()
        try:
            for n in range(10):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    o = perpend.attention(q, q, q, f"causal & window({n + 1})")
                graph.replay()
                self.assertTrue(torch.equal(o, perpend.attention(q, q, q, f"causal & window({n + 1})")))
        finally:
            stop.set()
            worker.join()
        self.assertEqual(faults, [])

    @unittest.skipIf(torch.cuda.device_count() < 2, "needs two GPUs")
    def test_the_device_of_the_operands_need_not_be_current(self):
        there = operands((300, 300), device="cuda:1")
        here = [x.detach().to("cuda:0").requires_grad_() for x in there]
        torch.cuda.set_device(0)
        expected = self.gradients(*here)
        found = self.gradients(*there)
        self.assertEqual(torch.cuda.current_device(), 0)
        for x, y in zip(found, expected):
            self.assertEqual(x.device, torch.device("cuda:1"))
            self.assertTrue(torch.equal(x.cpu(), y.cpu()))

    @unittest.skipIf(torch.cuda.device_count() < 2, "needs two GPUs")
    def test_streams_and_graphs_of_another_device(self):
        q = torch.zeros(2, 4, 300, 64, device="cuda:1").bfloat16()
        values = torch.randn_like(q)
        expected = perpend.attention(values, values, values, "causal")
        torch.cuda.synchronize("cuda:1")
        with torch.cuda.stream(torch.cuda.Stream("cuda:1")), torch.cuda.device(0):
            with torch.cuda.device(1):
                torch.cuda._sleep(SLEEP_CYCLES)
            q.copy_(values)
            self.assertTrue(torch.equal(perpend.attention(q, q, q, "causal"), expected))

    @unittest.skipIf(torch.cuda.device_count() < 2, "needs two GPUs")
    def test_operands_on_two_devices_are_refused(self):
        q, k, v = operands((70, 70))
        with self.assertRaisesRegex(RuntimeError, "v is on cuda:1, q on cuda:0"):
            perpend.attention(q, k, v.to("cuda:1"), "causal")

    @staticmethod
    def gradients(q, k, v, mask="causal & window(200)"):
        o = perpend.attention(q, k, v, mask)
        return o, *torch.autograd.grad(o, (q, k, v), torch.ones_like(o))


if __name__ == "__main__":
    cuda_case.main()

"""`perpend chat` in a terminal: history, cached messages, interrupts. chat_command_test.py PROGRAM MODEL"""

import re
import signal
import sys
import unittest

from program import GREEDY, PROGRAM, environment, generate, long_text
from terminal import Terminal


class Chat(unittest.TestCase):
    READY = r"(?:^|\n)> $"

    def open(self, *arguments: object) -> Terminal:
        terminal = Terminal([PROGRAM, "chat", *GREEDY, "--stats", *map(str, arguments)], environment())
        terminal.expect(self.READY)
        return terminal

    def ask(self, terminal: Terminal, question: str) -> tuple[str, int, int]:
        """The answer, the tokens of its prompt and its own."""
        terminal.send(question + "\n")
        found = re.search(
            r"(?s)(.*)\n\[(\d+) prompt tokens, (\d+) new.*\]\n> ", terminal.expect(r"\[\d+ prompt tokens.*\]\r\n> $")
        )
        return found[1], int(found[2]), int(found[3])

    def test_turns_have_a_history(self):
        question = "Which town did I name?"
        with self.open("--max-tokens", 24) as terminal:
            _, first_prompt, first_new = self.ask(terminal, "I live in Lisbon.")
            with_history, prompt, _ = self.ask(terminal, question)
            self.assertGreater(prompt, first_prompt + first_new)
            terminal.send("/new\n")
            terminal.expect(self.READY)
            afresh, prompt, _ = self.ask(terminal, question)
            self.assertLess(prompt, first_prompt + first_new)
            self.assertNotEqual(with_history, afresh)
            terminal.send("/exit\n")
            self.assertEqual(terminal.close(), 0)
        self.assertEqual(afresh, generate(question, *GREEDY, "--max-tokens", 24)["text"])

    def test_a_message_that_was_read_before_is_not_read_again(self):
        def ask(terminal: Terminal) -> tuple[str, int, int]:
            terminal.send(long_text(300) + "\n")
            found = re.search(
                r"(?s)(.*)\n\[(\d+) prompt tokens, \d+ new(?:, (\d+) cached)?,",
                terminal.expect(r"\[\d+ prompt tokens.*\]\r\n> $"),
            )
            return found[1], int(found[2]), int(found[3] or 0)

        for kept in (64, 0):
            with self.open("--max-tokens", 4, "--prefill-chunk", 64, "--prefix-cache", kept) as terminal:
                first, tokens, cached = ask(terminal)
                self.assertEqual(cached, 0)
                terminal.send("/new\n")
                terminal.expect(self.READY)
                again, _, cached = ask(terminal)
                self.assertEqual(again, first)
                self.assertEqual(cached, (tokens - 1) // 64 * 64 if kept else 0)
                terminal.send("\x04")
                self.assertEqual(terminal.close(), 0)

    def test_interrupt_ends_an_answer(self):
        with self.open("--max-tokens", 4000) as terminal:
            terminal.send("Count from one to one thousand in words.\n")
            terminal.expect(r"\S+")
            terminal.send("\x03")
            report = terminal.expect(r"\[\d+ prompt tokens.*\]\r\n> $")
            self.assertLess(int(re.search(r"(\d+) new", report)[1]), 4000)
            answer, _, _ = self.ask(terminal, "Say hello.")
            self.assertTrue(answer)
            terminal.send("\x04")
            self.assertEqual(terminal.close(), 0)

    def test_interrupt_ends_the_reading_of_a_message(self):
        with self.open("--prefill-chunk", 4, "--max-tokens", 4) as terminal:
            terminal.send(long_text(700)[:4000] + "\n")
            terminal.wait_until_caught(signal.SIGINT)
            terminal.send("\x03")
            self.assertIn(" 0 new", terminal.expect(r"\[\d+ prompt tokens.*\]\r\n> $"))
            terminal.send("\x03")
            self.assertEqual(terminal.close(), -signal.SIGINT)


unittest.main(argv=sys.argv[:1] + sys.argv[3:])

"""Texts that tokenizers get wrong."""

import unicodedata

from tokenizers import normalizers, pre_tokenizers

TORTURE = [
    "Hello, world! It's 2024's last day; they'll've gone. I'M HE'D WE'RE",
    "  leading and   inner    blanks \t tabs\n\nnew lines\r\n  \n   end   ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭 e\u0301 é Å ﬁ ﷺ a\u0316\u0301\u0323 \u0301x \u1100\u1161\u11a8 ÅÅ İI ẞ",
    "日本語のテキスト 中文字符 한국어 ไทย हिन्दी العربية עברית",
    "def f(x):\n    return x ** 2  # 12345678901234567890 0.5e-10 ١٢٣ ⅷ ½",
    "\x00\x01\x1f\x7f\x80\u200b\u2028\u00a0\u3000 end",
    "ſ's 'ſ 'S 'Ll x'LLy ''' ' 's't",
    "a" * 3000 + " " * 500 + "\n" * 100,
    "<|endoftext|><|im_start|>user\nhi<|im_end|> <|im_end",
    " <|im_end|> \n <|im_start|> <| x<|y hello HELLO\u2581wor word wor  end singing",
    "<s>a</s> <0x41> <unk> [CLS] [MASK].[SEP]",
    "",
    " ",
    "\u2581",
]


def form(name, text):
    return getattr(normalizers, name)().normalize_str(text)


def is_settled(c):
    """Whether libraries of different Unicode versions agree on a character, and so must we."""
    category = unicodedata.category(c)
    if category in ("Cs", "Cn"):
        return False
    if any(form(f, c) != unicodedata.normalize(f, c) for f in ("NFC", "NFD", "NFKC", "NFKD")):
        return False
    # Two letters were marks before Unicode 12.
    if (form("StripAccents", c) == "") != (category[0] == "M"):
        return False
    if category[0] == "M":
        cleaned = normalizers.BertNormalizer(False, False, True, False).normalize_str("a" + c)
        if (cleaned == "a") != (category == "Mn"):
            return False
        for text in ("a\u0315" + c, "a" + c + "\u0327"):
            if form("NFD", text) != unicodedata.normalize("NFD", text):
                return False
    if category == "Cf" and normalizers.BertNormalizer(True, False, False, False).normalize_str(c) != "":
        return False
    if c > "\x7f" and category[0] in "PS":
        return (len(pre_tokenizers.Punctuation("removed").pre_tokenize_str(f"a{c}b")) == 2) == (category[0] == "P")
    # U+180E, no blank since Unicode 6.3, is one to PCRE2.
    return c != "\u180e"


def settled(low, high):
    return [chr(code) for code in range(low, high) if is_settled(chr(code))]


class RandomText:
    def __init__(self, rng, recent=False):
        self.rng = rng
        self.pools = [settled(0x20, 0x7F)] * 4
        for low, high in [(0x9, 0xE), (0x80, 0x250), (0x300, 0x370), (0x400, 0x600), (0x900, 0xA00), (0x1100, 0x1200)]:
            self.pools.append(settled(low, high))
        for low, high in [(0x2000, 0x2070), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F300, 0x1F700)]:
            self.pools.append(settled(low, high))
        self.pools += [settled(0, 0x4000), settled(0xF000, 0x12000)]
        self.pools.append(settled(0x1D000, 0x20000) + settled(0xE0000, 0xE0200) + ["\U0010FFFD", "\U00020000"])
        if recent:
            # Letters, marks, digits and signs of Unicode 15.1 and 16.
            self.pools.append([chr(c) for c in [0x1C89, 0xA7CB, 0x10D4A, 0x13460, 0x143FA, 0x2EBF0, 0x2EE5D]])
            self.pools.append([chr(c) for c in [0x897, 0x1611E, 0x10D40, 0x1CCF9, 0x1B4E, 0x16D6F]])

    def __call__(self):
        rng = self.rng
        text = []
        for _ in range(rng.randint(0, 20)):
            text.append(rng.choice(rng.choice(self.pools)) * rng.choice([1, 1, 1, 2, 4]))
            text.append(rng.choice(["", "", " ", "\n", "'s", "9", "ing"]))
        return "".join(text)

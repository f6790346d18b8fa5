"""Small tokenizers of each published family, trained on the given texts with PyPI tokenizers."""

import json

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPACE = "\u2581"


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


def train_byte_level(texts, pre_tokenizer, normalizer=None, post_processor=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if post_processor:
        tokenizer.post_processor = post_processor
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def gpt2(texts):
    return train_byte_level(texts, byte_level(), post_processor=processors.ByteLevel(trim_offsets=True))


def roberta(texts):
    post_processor = processors.RobertaProcessing(("<|im_end|>", 2), ("<|im_start|>", 1))
    return train_byte_level(texts, byte_level(add_prefix_space=True), post_processor=post_processor)


def smollm(texts):
    return train_byte_level(texts, sequence(pre_tokenizers.Digits(individual_digits=True), byte_level()))


def llama3(texts):
    template = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    return train_byte_level(
        texts,
        sequence(split(LLAMA3), byte_level(use_regex=False)),
        post_processor=processors.Sequence([processors.ByteLevel(trim_offsets=False), template]),
        ignore_merges=True,
    )


def qwen2(texts):
    return train_byte_level(texts, sequence(split(QWEN2), byte_level(use_regex=False)), normalizers.NFC())


def gpt4o(texts):
    return train_byte_level(texts, sequence(split(GPT4O), byte_level(use_regex=False)))


def falcon(texts):
    return train_byte_level(
        texts,
        sequence(
            pre_tokenizers.Punctuation("contiguous"),
            byte_level(),
            pre_tokenizers.Digits(individual_digits=False),
            split(r"[0-9][0-9][0-9]"),
        ),
    )


def splits(texts):
    """Every behavior of Split, and the normalizers that change lengths."""
    return train_byte_level(
        texts,
        sequence(
            split(r"\d+|$", "merged_with_previous"),
            pre_tokenizers.Split("e", "merged_with_next"),
            split(r"[aeiou]+", "contiguous"),
            split(r"[\w']+|\h", "isolated", invert=True),
            split(r"(?<=x)y|^\s", "removed"),
            byte_level(use_regex=False),
        ),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"l+|o+"), "lo"), normalizers.Nmt()]),
    )


def byte_fallback(texts):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)],
        limit_alphabet=150,
        show_progress=False,
    )
    return tokenizer, trainer


def all_merges(vocab):
    """SentencePiece merges any two tokens that join to a third, the best token first."""
    merges = []
    for token in sorted(vocab, key=vocab.get):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += [list(cut) for cut in cuts if cut[0] in vocab and cut[1] in vocab]
    return merges


def set_fused_decoder(tokenizer):
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


def llama2(texts):
    """Trained on words, which keeps it quick; then the whole text is one word."""
    tokenizer, trainer = byte_fallback(texts)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    set_fused_decoder(tokenizer)
    return tokenizer


def metaspace(scheme, is_split):
    def train(texts):
        tokenizer, trainer = byte_fallback(texts)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=True)
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=is_split)
        tokenizer.add_tokens([AddedToken("ing", normalized=True), AddedToken("\n", normalized=False)])
        if is_split:
            tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
        else:
            set_fused_decoder(tokenizer)
        return tokenizer

    return train


def bert(lowercase):
    def train(texts):
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=50))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator([text.replace(SPACE, "") for text in texts], trainer)
        if lowercase:
            tokenizer.post_processor = processors.TemplateProcessing(
                single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
            )
        else:
            tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        return tokenizer

    return train


def words(texts):
    """BPE over characters with word ends, as before byte-level vocabularies."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<unk>"],
        end_of_word_suffix="</w>",
        limit_alphabet=100,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(
        [AddedToken("Hello", normalized=True), AddedToken("wor", single_word=True), AddedToken("end", lstrip=True)]
    )
    return tokenizer


def subwords(texts):
    """Continuing prefixes and no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, continuing_subword_prefix="@@"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Strip(left=False, right=True)])
    tokenizer.pre_tokenizer = sequence(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed"))
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<unk>"],
        continuing_subword_prefix="@@",
        limit_alphabet=100,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [AddedToken("<|im_end|>", lstrip=True, rstrip=True), AddedToken("<|", single_word=True), "<|im_start|>"]
    )
    return tokenizer


def with_string_merges(train):
    """The same in the older form of the file."""

    def rewritten(texts):
        tokenizer = json.loads(train(texts).to_str())
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
        return Tokenizer.from_str(json.dumps(tokenizer))

    return rewritten


FAMILIES = {
    "gpt2": gpt2,
    "roberta": roberta,
    "smollm": with_string_merges(smollm),
    "llama3": llama3,
    "qwen2": qwen2,
    "gpt4o": gpt4o,
    "falcon": falcon,
    "splits": splits,
    "llama2": llama2,
    "metaspace_first": metaspace("first", False),
    "metaspace_always": metaspace("always", True),
    "bert": bert(True),
    "bert_cased": bert(False),
    "words": words,
    "subwords": subwords,
}

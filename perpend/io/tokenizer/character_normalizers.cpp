#include "perpend/io/tokenizer/normalizer.h"
#include "perpend/io/tokenizer/text_rewriter.h"
#include "perpend/io/tokenizer/unicode_class.h"

namespace perpend {
namespace {

template <class Keep>
void keep_if(AlignedText& text, Keep keep) {
  TextRewriter rewriter(text);
  while (!rewriter.at_end()) {
    const char32_t c = rewriter.peek();
    if (keep(c)) {
      rewriter.replace(c);
    } else {
      rewriter.skip();
    }
  }
  rewriter.finish();
}

template <class Map>
void map_characters(AlignedText& text, Map map) {
  TextRewriter rewriter(text);
  while (!rewriter.at_end()) rewriter.replace(map(rewriter.peek()));
  rewriter.finish();
}

void lowercase(AlignedText& text) {
  TextRewriter rewriter(text);
  while (!rewriter.at_end()) {
    const Lowercase lower = lowercase_of(rewriter.peek());
    rewriter.replace(lower.first);
    if (lower.second != 0) rewriter.insert(lower.second);
  }
  rewriter.finish();
}

void clean(AlignedText& text) {
  const auto is_line_blank = [](char32_t c) { return c == '\t' || c == '\n' || c == '\r'; };
  keep_if(text,
          [&](char32_t c) { return is_line_blank(c) || !(c == 0 || c == 0xFFFD || is_other(c)); });
  map_characters(text, [](char32_t c) { return is_blank(c) ? U' ' : c; });
}

void separate_ideographs(AlignedText& text) {
  TextRewriter rewriter(text);
  while (!rewriter.at_end()) {
    const char32_t c = rewriter.peek();
    if (!is_cjk_ideograph(c)) {
      rewriter.replace(c);
      continue;
    }
    rewriter.replace(' ');
    rewriter.insert(c);
    rewriter.insert(' ');
  }
  rewriter.finish();
}

bool is_nmt_control(char32_t c) {
  return (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
         c == 0x9F;
}

bool is_nmt_blank(char32_t c) {
  return c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
         (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF ||
         c == 0xFFFD;
}

}  // namespace

Normalizer lowercase_normalizer() { return lowercase; }

Normalizer strip_accents_normalizer() {
  return [](AlignedText& text) { keep_if(text, [](char32_t c) { return !is_mark(c); }); };
}

Normalizer nmt_normalizer() {
  return [](AlignedText& text) {
    keep_if(text, [](char32_t c) { return !is_nmt_control(c); });
    map_characters(text, [](char32_t c) { return is_nmt_blank(c) ? U' ' : c; });
  };
}

Normalizer bert_normalizer(BertNormalizerOptions options) {
  return [options](AlignedText& text) {
    if (options.clean_text) clean(text);
    if (options.separate_ideographs) separate_ideographs(text);
    if (options.strip_accents) {
      normalize(text, {.compatible = false, .composed = false});
      keep_if(text, [](char32_t c) { return !is_nonspacing_mark(c); });
    }
    if (options.lowercase) lowercase(text);
  };
}

}  // namespace perpend

#include "perpend/io/tokenizer/regex.h"

#include <array>
#include <memory>
#include <optional>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

constexpr std::size_t kMaxPatternBytes = 1 << 16;
constexpr std::uint32_t kMaxSteps = 10'000'000;
constexpr std::uint32_t kMaxHeapKib = 64 * 1024;

// What \w and \h mean to Oniguruma, as the inside of brackets.
std::string_view brackets_for(char escaped) {
  // Letters, marks, digits and connectors, and the circled and squared letters.
  if (escaped == 'w') {
    return "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"
           "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
  }
  if (escaped == 'h') return "0-9a-fA-F";
  return {};
}

// `pattern` with those escapes written out, which mean something else to PCRE2.
std::string to_pcre2(std::string_view pattern) {
  std::string out;
  std::size_t depth = 0;  // of brackets
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      if (pattern[i] == '[') ++depth;
      if (pattern[i] == ']' && depth != 0) --depth;
      out += pattern[i];
      continue;
    }
    const char escaped = pattern[++i];
    const std::string_view inside = brackets_for(escaped == 'W' && depth == 0 ? 'w' : escaped);
    if (inside.empty()) {
      (out += '\\') += escaped;
    } else if (depth != 0) {
      out += inside;
    } else {
      ((out += escaped == 'W' ? "[^" : "[") += inside) += ']';
    }
  }
  return out;
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

class Regex {
 public:
  Regex(std::string_view pattern, const std::string& name) : name_(name) {
    if (pattern.size() > kMaxPatternBytes) {
      throw IoError(concat(name, ": expected a regular expression of at most ", kMaxPatternBytes,
                           " bytes, found ", pattern.size()));
    }
    const std::string translated = to_pcre2(pattern);
    int error = 0;
    std::size_t at = 0;
    // In Ruby's syntax ^ and $ are about lines.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                              &error, &at, nullptr));
    if (!code_) {
      throw IoError(concat(name, ": regular expression '", pattern.substr(0, 100), "', at byte ",
                           at, ": ", message_of(error)));
    }
    // Without the compiler the interpreter does the same, slower.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    limits_.reset(pcre2_match_context_create(nullptr));
    if (!limits_) throw OutOfMemory("regular expression");
    pcre2_set_match_limit(limits_.get(), kMaxSteps);
    pcre2_set_heap_limit(limits_.get(), kMaxHeapKib);
  }

  void find_all(std::string_view text, std::vector<TextRange>& matches) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> found(
        pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
    if (!found) throw OutOfMemory("regular expression");
    std::optional<std::size_t> last_end;
    for (std::size_t at = 0; at <= text.size();) {
      if (!find(text, at, found.get())) return;
      const std::size_t* ends = pcre2_get_ovector_pointer(found.get());
      const TextRange match{ends[0], ends[1]};
      // An empty match right after another is none; go on behind the next character.
      if (match.end <= match.begin && last_end == match.end) {
        at += at < text.size() ? read_utf8(text.substr(at)).size : 1;
        continue;
      }
      // \K can turn a match round.
      if (match.end < at || match.end < match.begin) return;
      matches.push_back(match);
      at = match.end;
      last_end = match.end;
    }
  }

 private:
  bool find(std::string_view text, std::size_t at, pcre2_match_data* found) const {
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int rc = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, found,
                         limits_.get());
    // Compiled code has a small stack of its own.
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code_.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       found, limits_.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) return false;
    if (rc < 0) {
      throw InvalidArgument(
          concat(name_, ": a regular expression gives up on this text: ", message_of(rc)));
    }
    return true;
  }

  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  };

  std::string name_;
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_context, Free> limits_;
};

}  // namespace

TextPattern regex_pattern(std::string_view pattern, const std::string& name) {
  return [regex = std::make_shared<const Regex>(pattern, name)](std::string_view text,
                                                                std::vector<TextRange>& matches) {
    regex->find_all(text, matches);
  };
}

}  // namespace perpend

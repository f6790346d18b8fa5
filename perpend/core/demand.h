#pragma once

#include "perpend/core/error.h"

namespace perpend {

// check() whose text is only made when it is needed: a decode step passes a thousand of these, and
// each text costs more than the test.
template <class... Parts>
void demand(bool condition, const Parts&... parts) {
  if (!condition) throw InvalidArgument(concat(parts...));
}

// check_eq() likewise: throws InvalidArgument "<parts> (<a> vs <b>)" unless a == b.
template <class A, class B, class... Parts>
void demand_eq(const A& a, const B& b, const Parts&... parts) {
  if (!(a == b)) throw InvalidArgument(concat(parts..., " (", a, " vs ", b, ")"));
}

}  // namespace perpend

#pragma once

namespace perpend {

// While one lives, Ctrl-C is noted instead of ending the program. One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  // Whether Ctrl-C was pressed since the scope began.
  static bool interrupted();

 private:
  void (*previous_)(int);
};

}  // namespace perpend

#pragma once

namespace perpend {

// The registers that innermost loops need on a thread, while it lives.
template <class Micro>
class RegisterScope {
 public:
  explicit RegisterScope(const Micro& micro) : micro_(micro) {
    if (micro_.acquire_registers != nullptr) micro_.acquire_registers();
  }
  ~RegisterScope() {
    if (micro_.release_registers != nullptr) micro_.release_registers();
  }
  RegisterScope(const RegisterScope&) = delete;
  RegisterScope& operator=(const RegisterScope&) = delete;

 private:
  const Micro& micro_;
};

}  // namespace perpend

#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace perpend {

// What others have derived from a value and keep beside it for as long as it lives, such as its
// copy in a GPU's memory. A copy of the value begins without, since it may be changed; whoever
// changes a value that has attachments must copy it first. Safe to use from several threads.
class Attachments {
 public:
  Attachments() = default;
  Attachments(const Attachments& /*other*/) {}
  Attachments(Attachments&& other) noexcept : kept_(std::move(other.kept_)) {}
  Attachments& operator=(const Attachments& other) {
    if (this != &other) kept_.clear();
    return *this;
  }
  Attachments& operator=(Attachments&& other) noexcept {
    kept_ = std::move(other.kept_);
    return *this;
  }
  ~Attachments() = default;

  // The T of device `index`, made by make() when there is none; other threads wait for it. T's are
  // told apart by their types.
  template <class T, class Make>
  std::shared_ptr<const T> get(int index, Make make) const {
    const std::scoped_lock lock(mutex_);
    for (const Kept& kept : kept_) {
      if (kept.type == &kTypeOf<T> && kept.index == index) {
        return std::static_pointer_cast<const T>(kept.value);
      }
    }
    std::shared_ptr<const T> made = make();
    kept_.push_back({&kTypeOf<T>, index, made});
    return made;
  }

 private:
  template <class T>
  static constexpr char kTypeOf = 0;  // its address stands for T

  struct Kept {
    const void* type = nullptr;
    int index = 0;
    std::shared_ptr<const void> value;
  };

  mutable std::mutex mutex_;
  mutable std::vector<Kept> kept_;
};

}  // namespace perpend

#include "perpend/train/training_loop.h"

#include <chrono>
#include <cmath>
#include <filesystem>

#include "perpend/core/error.h"
#include "perpend/train/loss_plot.h"
#include "perpend/train/training_state.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

class Loop {
 public:
  Loop(Trainer& trainer, const LoopOptions& options)
      : trainer_(trainer),
        options_(options),
        states_(options.out + "/states"),
        log_path_(options.out + "/log.jsonl") {}

  bool run(LoopProgress progress) {
    start();
    TrainLog log(log_path_, trainer_.place().num_steps);
    const bool was_finished = is_finished();
    bool goes_on = !was_finished;
    Clock::time_point last = Clock::now();
    std::int64_t tokens = 0;
    double flops = 0;
    while (goes_on) {
      const StepReport report = trainer_.step();
      tokens += report.num_tokens;
      flops += report.flops;
      const bool is_last = report.step == options_.num_steps;
      bool is_wanted = true;
      const bool is_evaluated = options_.evaluate && (is_last || is_due(options_.evaluate_every));
      if (is_last || is_evaluated || is_due(options_.log_every)) {
        LogEntry entry = entry_of(report);
        const std::chrono::duration<double> seconds = Clock::now() - last;
        entry.tokens_per_s = static_cast<double>(tokens) / seconds.count();
        if (options_.peak_flops > 0) entry.mfu = flops / seconds.count() / options_.peak_flops;
        if (is_evaluated) entry.evaluation = score();
        log.write(entry);
        check_finite(entry);
        goes_on = !is_last && !has_arrived(entry);
        is_wanted = progress(entry);
        last = Clock::now();
        tokens = 0;
        flops = 0;
      }
      if (!goes_on || !is_wanted || is_due(options_.state_every)) save();
      if (!is_wanted) return false;
    }
    const std::vector<LogEntry> entries = read_train_log(log_path_);
    write_loss_plot(entries, options_.out, options_.out + "/loss");
    if (was_finished && !entries.empty()) progress(entries.back());
    return true;
  }

 private:
  void start() {
    std::error_code error;
    fs::create_directories(states_, error);
    if (error) throw IoError(concat(states_, ": ", error.message()));
    const auto steps = list_states(states_);
    if (!options_.resume) {
      check(steps.empty() && !fs::exists(log_path_),
            concat(options_.out, " holds a run already: resume it, or choose another folder"));
      return;
    }
    if (steps.empty()) return;
    const std::string folder = concat(states_, "/", state_name(steps.back()));
    const TrainingState state = load_training_state(folder, trainer_.optimizer().state());
    const auto check_same = [&](auto saved, auto now, std::string_view what) {
      check_eq(saved, now, concat(folder, ": ", what, " of the saved run and of this one differ"));
    };
    check_same(state.dataset_size, trainer_.dataset_size(), "examples");
    check_same(state.seed, options_.seed, "seed");
    trainer_.restore(state.place);
  }

  LogEntry entry_of(const StepReport& report) {
    LogEntry entry;
    entry.step = report.step;
    entry.loss = report.loss.item<double>();
    for (const auto& [name, value] : report.parts) {
      entry.parts.emplace_back(name, value.item<double>());
    }
    entry.learning_rate = report.learning_rate;
    entry.grad_norm = report.grad_norm.item<double>();
    entry.tokens = trainer_.place().num_tokens;
    return entry;
  }

  bool has_arrived(const LogEntry& entry) const {
    return entry.evaluation && entry.evaluation->exact_match >= options_.stop_at;
  }

  // As the log tells it, which ends with the step of the state that was restored.
  bool is_finished() const {
    if (trainer_.place().num_steps >= options_.num_steps) return true;
    const std::vector<LogEntry> entries = read_train_log(log_path_);
    return !entries.empty() && has_arrived(entries.back());
  }

  // Behind the step that was made last; a period of 0 never is.
  bool is_due(std::int64_t period) const {
    return period > 0 && trainer_.place().num_steps % period == 0;
  }

  LogEntry::Score score() const {
    const TargetScore found = options_.evaluate();
    return {found.loss(), found.exact_match()};
  }

  static void check_finite(const LogEntry& entry) {
    if (std::isfinite(entry.loss) && std::isfinite(entry.grad_norm)) return;
    throw InvalidArgument(concat("training: at step ", entry.step, " the loss is ", entry.loss,
                                 " and the norm of gradients ", entry.grad_norm,
                                 ": try a lower learning rate"));
  }

  void save() {
    save_training_state(
        concat(states_, "/", state_name(trainer_.place().num_steps)),
        {.place = trainer_.place(), .dataset_size = trainer_.dataset_size(), .seed = options_.seed},
        trainer_.optimizer().state());
    remove_old_states(states_, options_.keep_states);
  }

  Trainer& trainer_;
  const LoopOptions& options_;
  std::string states_;
  std::string log_path_;
};

}  // namespace

bool run_training(Trainer& trainer, const LoopOptions& options, LoopProgress progress) {
  check(options.log_every >= 1 && options.keep_states >= 1 && options.state_every >= 0,
        "training: log_every and keep_states must be positive, state_every not negative");
  return Loop(trainer, options).run(progress);
}

}  // namespace perpend

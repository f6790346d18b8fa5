#include "perpend/train/loss_plot.h"

#include "perpend/io/atomic_file.h"
#include "perpend/io/line_plot.h"
#include "perpend/io/png.h"

namespace perpend {

void write_loss_plot(std::span<const LogEntry> entries, const std::string& title,
                     const std::string& path) {
  LinePlot plot{.title = title, .x_label = "step", .y_label = "loss", .series = {{"loss", {}, {}}}};
  LinePlot::Series evaluation{"evaluation", {}, {}};
  for (const LogEntry& entry : entries) {
    const auto step = static_cast<double>(entry.step);
    plot.series[0].x.push_back(step);
    plot.series[0].y.push_back(entry.loss);
    if (entry.parts.size() > 1) {
      plot.series.resize(1 + entry.parts.size());
      for (std::size_t i = 0; i < entry.parts.size(); ++i) {
        LinePlot::Series& series = plot.series[1 + i];
        series.name = entry.parts[i].first;
        series.x.push_back(step);
        series.y.push_back(entry.parts[i].second);
      }
    }
    if (!entry.evaluation) continue;
    evaluation.x.push_back(step);
    evaluation.y.push_back(entry.evaluation->loss);
  }
  if (!evaluation.x.empty()) plot.series.push_back(evaluation);
  AtomicFile file(path + ".svg");
  file.write(plot.svg());
  file.commit();
  write_png(plot.image(), path + ".png");
}

}  // namespace perpend

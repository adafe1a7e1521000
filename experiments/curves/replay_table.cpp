// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "experiments/curves/replay.h"
#include "nas/core/error.h"
#include "nas/report/plot.h"
#include "nas/report/text.h"

namespace nas {
namespace {

std::string digits(const char* format, double value) {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

std::string replay_markdown(const CurveTable& table, const std::vector<ReplaySummary>& summaries) {
  std::string text = concat_text("Regret on ",
                                 table.data,
                                 ", ",
                                 table.networks.size(),
                                 " networks: held-out score of the best network with the whole "
                                 "effort, less that of what is delivered; mean and 95 % interval "
                                 "over seeds.\n\n");
  text +=
      "| effort | policy | regret | interval | delivered | for the search | trials | relative cost "
      "|\n|---:|---|---:|---|---:|---:|---:|---:|\n";
  for (const ReplaySummary& s : summaries) {
    text += concat_text("| ", digits("%g", s.effort), " | ", s.policy, " | ");
    if (s.seeds == 0) {
      text += "too small | | | | | |\n";
      continue;
    }
    text += concat_text(digits("%.4f", s.regret),
                        " | [",
                        digits("%.4f", s.low),
                        ", ",
                        digits("%.4f", s.high),
                        "] | ",
                        digits("%.4f", s.delivered),
                        " | ",
                        digits("%.0f", 100 * s.search_share),
                        " % | ",
                        digits("%.1f", s.trials),
                        " | ",
                        digits("%.2f", s.relative_cost),
                        " |\n");
  }
  return text;
}

std::string replay_svg(const CurveTable& table, const std::vector<ReplaySummary>& summaries) {
  std::vector<std::string> policies;
  double low = INFINITY, high = -INFINITY, most = 0;
  for (const ReplaySummary& s : summaries) {
    if (s.seeds == 0) continue;
    if (std::ranges::find(policies, s.policy) == policies.end()) policies.push_back(s.policy);
    low = std::min(low, std::log10(s.effort));
    high = std::max(high, std::log10(s.effort));
    most = std::max(most, s.high);
  }
  NAS_CHECK_KIND(Usage, !policies.empty(), "replay: no effort is large enough for any policy");
  widen(low, high, 0.2);
  const Axis x{low, high, 70, 520}, y{0, 1.05 * std::max(most, 1e-4), 320, 20};
  std::ostringstream svg;
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 680 370\" width=\"680\" "
         "height=\"370\" font-family=\"sans-serif\" font-size=\"12\">\n"
      << "<title>" << escaped("Mean regret by effort, " + table.data) << "</title>\n"
      << "<style>.grid{stroke:#ddd}.tick{fill:#555;font-size:11px}.label{fill:#333}</style>\n"
      << "<rect width=\"680\" height=\"370\" fill=\"#fff\"/>\n";
  draw_axes(svg, x, y, "log10 of the effort (training steps of the plan)", "mean regret");
  for (std::size_t p = 0; p < policies.size(); ++p) {
    const char* color = category_color(p);
    std::ostringstream line;
    for (const ReplaySummary& s : summaries) {
      if (s.seeds == 0 || s.policy != policies[p]) continue;
      const double at = x(std::log10(s.effort));
      line << (line.str().empty() ? "M" : " L") << at << ' ' << y(s.regret);
      svg << "<line stroke=\"" << color << "\" x1=\"" << at << "\" x2=\"" << at << "\" y1=\""
          << y(std::max(0.0, s.low)) << "\" y2=\"" << y(s.high) << "\"/>\n";
    }
    svg << "<path fill=\"none\" stroke-width=\"2\" stroke=\"" << color << "\" d=\"" << line.str()
        << "\"/>\n";
    const double row = 30 + 20 * static_cast<double>(p);
    svg << "<line stroke-width=\"3\" stroke=\"" << color << "\" x1=\"540\" x2=\"560\" y1=\"" << row
        << "\" y2=\"" << row << "\"/><text x=\"566\" y=\"" << row + 4 << "\">"
        << escaped(policies[p]) << "</text>\n";
  }
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace nas

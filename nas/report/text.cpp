// SPDX-License-Identifier: Apache-2.0
#include "nas/report/text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/imaging/metrics.h"

namespace nas {

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  const std::string_view result = text;
  if (result[0] == '-' && result.find_first_not_of("-0.") == result.npos) return text + 1;
  return text;
}
Json finite(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string with_sign(double value, int digits) {
  return (value >= 0 ? "+" : "") + fixed(value, digits);
}
std::string interval_text(const Json& interval, int digits) {
  if (!interval.is_array() || interval.size() != 2 || !interval[0].is_number()) return "–";
  return concat_text("[",
                     with_sign(interval[0].get<double>(), digits),
                     ", ",
                     with_sign(interval[1].get<double>(), digits),
                     "]");
}

std::string p_text(double p) { return p < 0.0001 ? "p < 0.0001" : "p = " + fixed(p, 4); }

double number_or(const Json& object, const char* key, double otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : otherwise;
}
std::string text_or(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}
const Json& part(const Json& value, const char* key) {
  static const Json nothing;
  if (!value.is_object()) return nothing;
  const auto found = value.find(key);
  return found == value.end() ? nothing : *found;
}

std::string count_text(const Json& value) {
  return value.is_number() ? format_count(value.get<double>()) : "–";
}

std::string join(const Json& words, const char* separator) {
  std::string text;
  for (const Json& word : words) {
    text += (text.empty() ? "" : separator) +
            (word.is_string() ? word.get<std::string>() : word.dump());
  }
  return text;
}

std::vector<std::optional<double>> class_dice(const Json& classes) {
  std::vector<std::optional<double>> result;
  for (const Json& c : classes) {
    const Json& dice = part(c, "dice");
    result.push_back(dice.is_number() ? std::optional(dice.get<double>()) : std::nullopt);
  }
  return result;
}

bool chosen_before(const Json& data) {
  return std::ranges::any_of(data.at("final"),
                             [](const Json& trial) { return trial.value("all_cases", false); });
}

std::string score_name(const Json& data) {
  const std::string name = text_or(part(data, "recipe"), "metric");
  for (const MetricInfo& metric : metric_table()) {
    if (name == metric.name) return concat_text(metric.higher_is_better ? "" : "−", metric.title);
  }
  return "Dice";
}

bool budget_is_time(const Json& data) { return data.at("budget").at("seconds").get<double>() > 0; }

std::string text_table(const Table& table) {
  // Characters of UTF-8 text are the columns of a terminal.
  const auto width_of = [](const std::string& text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
  };
  std::vector<std::size_t> widths;
  const auto widen = [&](const std::vector<std::string>& cells) {
    widths.resize(std::max(widths.size(), cells.size()));
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], width_of(cells[i]));
  };
  widen(table.head);
  for (const auto& row : table.rows) widen(row);
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool right = i < table.columns.size() && table.columns[i] == 'r';
      const std::string space(widths[i] - width_of(cells[i]), ' ');
      text += (i > 0 ? "  " : "") + (right ? space + cells[i] : cells[i] + space);
    }
    out += text.substr(0, text.find_last_not_of(' ') + 1) + '\n';
  };
  line(table.head);
  for (const auto& row : table.rows) line(row);
  return out;
}

std::string markdown_table(const Table& table) {
  // A bar would end a cell, a line break the row.
  const auto cell = [](const std::string& text) {
    std::string result;
    for (const char c : text)
      result += c == '|' ? std::string("\\|") : c == '\n' ? std::string(" ") : std::string(1, c);
    return result;
  };
  std::ostringstream out;
  out << '|';
  for (const std::string& h : table.head) out << ' ' << cell(h) << " |";
  out << "\n|";
  for (std::size_t i = 0; i < table.head.size(); ++i)
    out << (i < table.columns.size() && table.columns[i] == 'r' ? " ---: |" : " --- |");
  out << '\n';
  for (const auto& row : table.rows) {
    out << '|';
    for (const std::string& c : row) out << ' ' << cell(c) << " |";
    out << '\n';
  }
  return out.str();
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        // Control characters are not allowed in HTML.
        result += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return result;
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<std::uint8_t>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      result += k <= count ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return result;
}

Html& Html::raw(std::string_view markup) {
  out_ << markup;
  return *this;
}

Html& Html::element(const char* tag, std::string_view content, const char* attributes) {
  out_ << '<' << tag << (*attributes != 0 ? " " : "") << attributes << '>' << escaped(content)
       << "</" << tag << ">\n";
  return *this;
}

Html& Html::table(const Table& table) {
  auto row = [&](const char* tag, const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const char column = i < table.columns.size() ? table.columns[i] : 'l';
      out_ << '<' << tag
           << (column == 'r'   ? " class=\"n\">"
               : column == 'w' ? " class=\"w\">"
                               : ">")
           << escaped(cells[i]) << "</" << tag << '>';
    }
    out_ << "</tr>\n";
  };
  out_ << "<div class=\"scroll\"><table>\n<thead><tr>";
  row("th", table.head);
  out_ << "</thead>\n<tbody>\n";
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    const std::string name = r < table.classes.size() ? table.classes[r] : "";
    out_ << (name.empty() ? "<tr>" : concat_text("<tr class=\"", name, "\">"));
    row("td", table.rows[r]);
  }
  out_ << "</tbody></table></div>\n";
  return *this;
}

}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include "nas/network/drawing.h"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/quantity.h"
#include "nas/network/operations.h"
#include "nas/network/summary.h"

extern char** environ;

namespace nas {
namespace {

struct Look {
  const char* fill;
  const char* line;
};

Look look_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::Input:
    case OperationKind::Output:
      return {"#f1f3f5", "#495057"};
    case OperationKind::Convolution:
      return {"#d0ebff", "#1971c2"};
    case OperationKind::Norm:
    case OperationKind::Activation:
      return {"#fff3bf", "#e67700"};
    case OperationKind::Merge:
      return {"#e5dbff", "#6741d9"};
    case OperationKind::Pool:
    case OperationKind::Resample:
      return {"#d3f9d8", "#2b8a3e"};
    case OperationKind::Other:
      break;
  }
  return {"#ffffff", "#868e96"};
}

std::string shape_text(const TensorShape& shape) {
  return std::to_string(shape.channels) + " · " + std::to_string(shape.space[0]) + "×" +
         std::to_string(shape.space[1]) + "×" + std::to_string(shape.space[2]);
}

/// "encoder.stages.0" of "encoder.stages.0.0.convs.1.conv": the name up to its first number; ""
/// without one.
std::string stage_of(const std::string& name) {
  std::size_t begin = 0;
  while (begin < name.size()) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const bool number = std::all_of(name.begin() + static_cast<std::ptrdiff_t>(begin),
                                    name.begin() + static_cast<std::ptrdiff_t>(end),
                                    [](char c) { return c >= '0' && c <= '9'; });
    if (number) return name.substr(0, end);
    begin = end + 1;
  }
  const std::size_t first = name.find('.');
  return first == std::string::npos
             ? ""
             : name.substr(0, name.rfind('.') == first ? first : name.find('.', first + 1));
}

/// Nodes drawn as one box: a convolution and the norm and activation that alone use its result.
std::vector<std::vector<int>> boxes_of(const Graph& graph) {
  std::vector<std::vector<int>> users(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const int input : graph.nodes[i].inputs)
      users[static_cast<std::size_t>(input)].push_back(static_cast<int>(i));
  }
  std::vector<std::vector<int>> boxes;
  std::vector<char> taken(graph.nodes.size(), 0);
  const auto kind_of = [&](int i) {
    const Operation* row = find_operation(graph.nodes[static_cast<std::size_t>(i)].op);
    return row ? row->kind : OperationKind::Other;
  };
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (taken[i]) continue;
    std::vector<int> box{static_cast<int>(i)};
    if (kind_of(box[0]) == OperationKind::Convolution || kind_of(box[0]) == OperationKind::Norm) {
      while (users[static_cast<std::size_t>(box.back())].size() == 1) {
        const int next = users[static_cast<std::size_t>(box.back())][0];
        const OperationKind kind = kind_of(next);
        if (kind != OperationKind::Norm && kind != OperationKind::Activation) break;
        if (kind_of(box.back()) == OperationKind::Activation) break;
        box.push_back(next);
        taken[static_cast<std::size_t>(next)] = 1;
      }
    }
    boxes.push_back(std::move(box));
  }
  return boxes;
}

void run_dot(const std::string& format,
             const std::filesystem::path& source,
             const std::filesystem::path& target,
             const std::filesystem::path& named,  // what errors call the target
             double seconds) {
  // Absolute: a name that begins with '-' would be an option.
  std::vector<std::string> words{"dot",
                                 "-T" + format,
                                 "-o",
                                 std::filesystem::absolute(target).string(),
                                 std::filesystem::absolute(source).string()};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t process = 0;
  const int error = posix_spawnp(&process, "dot", nullptr, nullptr, arguments.data(), environ);
  NAS_CHECK_KIND(
      Io, error != ENOENT, "Graphviz's program `dot` is not installed (Debian package: graphviz)");
  NAS_CHECK_KIND(Io, error == 0, "dot: cannot be started: ", std::strerror(error));
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  int status = 0;
  bool late = false;
  for (;;) {
    const pid_t done = waitpid(process, &status, late ? 0 : WNOHANG);
    if (done == process) break;
    NAS_CHECK_KIND(Io, done == 0 || errno == EINTR, "dot: ", std::strerror(errno));
    if (!late && std::chrono::steady_clock::now() > end) {
      late = true;
      ::kill(process, SIGKILL);
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  NAS_CHECK_KIND(Io,
                 !late,
                 "cannot draw ",
                 named.string(),
                 ": Graphviz's dot was stopped, since it took longer than ",
                 format_duration(seconds));
  NAS_CHECK_KIND(Io,
                 WIFEXITED(status) && WEXITSTATUS(status) == 0,
                 "cannot draw ",
                 named.string(),
                 ": Graphviz's dot failed (its own message is above; is the disk full?)");
}

}  // namespace

std::string to_dot(const Graph& graph, const Extent3& input_space) {
  const std::vector<TensorShape> shapes = infer_shapes(graph, input_space);
  const std::vector<Cost> costs = node_costs(graph, input_space);
  const std::vector<std::vector<int>> boxes = boxes_of(graph);
  std::vector<int> box_of(graph.nodes.size());
  std::map<std::string, std::vector<int>> stages;  // stage -> its boxes
  for (std::size_t b = 0; b < boxes.size(); ++b) {
    for (const int node : boxes[b]) box_of[static_cast<std::size_t>(node)] = static_cast<int>(b);
    stages[stage_of(graph.nodes[static_cast<std::size_t>(boxes[b][0])].name)].push_back(
        static_cast<int>(b));
  }

  // Names consist of letters, digits, '_', '-' and '.' (validate), so nothing needs quoting beyond
  // the quotes.
  std::string dot =
      "digraph network {\n  rankdir=TB; nodesep=0.3; ranksep=0.35; fontname=\"Helvetica\"; "
      "bgcolor=white;\n"
      "  node [shape=box style=\"filled,rounded\" fontname=\"Helvetica\" fontsize=11 "
      "margin=\"0.12,0.06\"];\n"
      "  edge [fontname=\"Helvetica\" fontsize=9 color=\"#495057\" fontcolor=\"#495057\" "
      "arrowsize=0.7];\n";
  for (const auto& [stage, members] : stages) {
    const bool framed = !stage.empty() && members.size() > 1;
    if (framed) {
      dot += "  subgraph \"cluster_" + stage + "\" {\n    label=\"" + stage +
             "\"; labeljust=l; style=\"rounded\"; color=\"#ced4da\"; fontcolor=\"#868e96\"; "
             "fontsize=10;\n";
    }
    for (const int b : members) {
      const std::vector<int>& box = boxes[static_cast<std::size_t>(b)];
      const Node& first = graph.nodes[static_cast<std::size_t>(box[0])];
      std::int64_t parameters = 0;
      std::string lines;
      for (std::size_t k = 0; k < box.size(); ++k) {
        const auto index = static_cast<std::size_t>(box[k]);
        parameters += costs[index].parameters;
        if (k == 0) {
          lines += "<b>" + describe_node(graph.nodes[index]) + "</b>";
        } else {
          lines += (k == 1 ? "<br/>" : " + ") + describe_node(graph.nodes[index]);
        }
      }
      const Operation* row = find_operation(first.op);
      const OperationKind kind = row ? row->kind : OperationKind::Other;
      if (first.op == "choice") {
        for (const Graph& alternative : first.alternatives) {
          std::string inside;
          for (const Node& node : alternative.nodes) {
            if (node.op != "input" && node.op != "output")
              inside += (inside.empty() ? "" : ", ") + describe_node(node);
          }
          lines += "<br/>| " + (inside.empty() ? "identity" : inside);
        }
      }
      std::string name = first.name;
      if (framed) name = name.size() > stage.size() ? name.substr(stage.size() + 1) : name;
      const bool small = kind == OperationKind::Merge || kind == OperationKind::Activation;
      if (!small) lines += "<br/><font point-size=\"8\" color=\"#868e96\">" + name;
      if (!small && parameters > 0) lines += " · " + format_count(static_cast<double>(parameters));
      if (!small) lines += "</font>";
      if (kind == OperationKind::Input || kind == OperationKind::Output) {
        lines += "<br/>" + shape_text(shapes[static_cast<std::size_t>(box[0])]);
      }
      const Look look = look_of(kind);
      dot += "    b" + std::to_string(b) + " [label=<" + lines + "> fillcolor=\"" + look.fill +
             "\" color=\"" + look.line + "\"" + (small ? " shape=box height=0.2 width=0.3" : "") +
             "];\n";
    }
    if (framed) dot += "  }\n";
  }
  for (std::size_t b = 0; b < boxes.size(); ++b) {
    for (const int node : boxes[b]) {
      for (const int input : graph.nodes[static_cast<std::size_t>(node)].inputs) {
        const auto source = static_cast<std::size_t>(input);
        if (box_of[source] == static_cast<int>(b)) continue;
        dot += "  b" + std::to_string(box_of[source]) + " -> b" + std::to_string(b) +
               " [label=\" " + shape_text(shapes[source]) + "\"];\n";
      }
    }
  }
  return dot + "}\n";
}

void write_drawing(const Graph& graph,
                   const Extent3& input_space,
                   const std::filesystem::path& file,
                   double seconds) {
  std::string format = file.extension().string();
  if (!format.empty()) format.erase(0, 1);
  NAS_CHECK_KIND(Usage,
                 format == "svg" || format == "png" || format == "pdf",
                 file.string(),
                 ": a drawing must be named .svg, .png or .pdf");
  const std::string dot = to_dot(graph, input_space);
  write_path_atomic(file, [&](const std::filesystem::path& target) {
    const std::filesystem::path source = target.string() + ".dot";
    try {
      std::ofstream out(source, std::ios::binary);
      out << dot;
      out.close();
      NAS_CHECK_KIND(Io, out.good(), "cannot write ", file.string(), ": ", std::strerror(errno));
      run_dot(format, source, target, file, seconds);
    } catch (...) {
      std::error_code ignored;
      std::filesystem::remove(source, ignored);
      throw;
    }
    std::filesystem::remove(source);
  });
}

}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/listeners/event_listeners.h"
#include "nas/listeners/http_client.h"
#include "nas/listeners/outbox.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExperiment = "VoxNAS";
constexpr std::size_t kMostParameters = 100;  // of one log-batch
constexpr std::size_t kLongestValue = 500;    // of a parameter

std::int64_t now_milliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

/// Names in MLflow have letters, digits and "_-. :/" alone.
std::string mlflow_name(std::string name) {
  for (char& c : name) {
    const bool good = (std::isalnum(static_cast<unsigned char>(c)) != 0) ||
                      std::string("_-. :/").find(c) != std::string::npos;
    if (!good) c = '_';
  }
  return name;
}

Json pair_of(const std::string& key, const std::string& value) {
  return {{"key", key}, {"value", value}};
}

/// The conversation with the server; lives on the outbox's thread.
class MlflowClient {
 public:
  MlflowClient(std::string uri, fs::path memory) : memory_(std::move(memory)), uri_(uri) {
    while (uri.ends_with('/')) uri.pop_back();
    api_ = uri + "/api/2.0/mlflow/";
  }

  /// \throws Error(Io) with what the server said.
  void send(const Json& letter, const std::atomic<bool>& give_up) {
    give_up_ = &give_up;
    const std::string what = letter.at("what");
    if (what == "search") {
      parent_run(letter.at("name"));
    } else if (what == "trial") {
      trial(letter);
    } else {
      update(parent_run(""), letter.at("status"));
    }
  }

 private:
  Json post(const std::string& method, const Json& body) {
    const HttpReply reply = http_request(api_ + method, body, give_up_);
    if (!reply.good()) fail(ErrorKind::Io, method, ": ", reply.problem());
    return reply.json();
  }
  static std::string text_at(const Json& json, const Json::json_pointer& place) {
    if (json.is_discarded() || !json.contains(place) || !json.at(place).is_string()) {
      fail(ErrorKind::Io, "expected an answer with ", place.to_string(), ", found another one");
    }
    return json.at(place).get<std::string>();
  }

  std::string experiment() {
    if (!experiment_.empty()) return experiment_;
    const HttpReply known =
        http_request(api_ + "experiments/get-by-name?experiment_name=" + url_escaped(kExperiment),
                     nullptr,
                     give_up_);
    if (known.good()) {
      experiment_ = text_at(known.json(), Json::json_pointer("/experiment/experiment_id"));
    } else if (known.status == 404) {
      experiment_ = text_at(post("experiments/create", {{"name", kExperiment}}),
                            Json::json_pointer("/experiment_id"));
    } else {
      fail(ErrorKind::Io, "experiments/get-by-name: ", known.problem());
    }
    return experiment_;
  }

  std::string create(const std::string& name, std::int64_t start, const Json& tags) {
    return text_at(post("runs/create",
                        {{"experiment_id", experiment()},
                         {"run_name", name},
                         {"start_time", start},
                         {"tags", tags}}),
                   Json::json_pointer("/run/info/run_id"));
  }

  std::string parent_run(const std::string& name) {
    if (!parent_.empty()) return parent_;
    if (fs::exists(memory_)) {
      const Json known = read_json(memory_);
      const JsonReader reader(known, memory_.string());
      if (reader.at("uri").text() == uri_) parent_ = reader.at("run").text();
    }
    if (parent_.empty()) {
      parent_ =
          create(name, now_milliseconds(), Json::array({pair_of("mlflow.source.name", "voxnas")}));
      write_json(memory_, {{"uri", uri_}, {"run", parent_}});
    } else {
      update(parent_, "RUNNING");
    }
    return parent_;
  }

  void update(const std::string& run, const std::string& status) {
    Json body{{"run_id", run}, {"status", status}};
    if (status != "RUNNING") body["end_time"] = now_milliseconds();
    post("runs/update", body);
  }

  void trial(const Json& letter) {
    const std::string parent = parent_run("search");
    const std::string run =
        create(letter.at("name"),
               letter.at("start"),
               Json::array({pair_of("mlflow.parentRunId", parent),
                            pair_of("mlflow.source.name", "voxnas"),
                            pair_of("status", letter.at("trial_status").get<std::string>())}));
    const Json& parameters = letter.at("parameters");
    Json metrics = letter.at("metrics");
    for (std::size_t from = 0; from < parameters.size() || !metrics.empty();
         from += kMostParameters) {
      Json part = Json::array();
      for (std::size_t i = from; i < std::min(parameters.size(), from + kMostParameters); ++i) {
        part.push_back(parameters[i]);
      }
      post("runs/log-batch", {{"run_id", run}, {"params", part}, {"metrics", metrics}});
      metrics = Json::array();
    }
    update(run, letter.at("status"));
  }

  const fs::path memory_;
  const std::string uri_;
  std::string api_, experiment_, parent_;
  const std::atomic<bool>* give_up_ = nullptr;
};

class MlflowListener : public SearchListener {
 public:
  MlflowListener(const SearchSpace& space, const fs::path& run_folder, const std::string& uri)
      : space_(space),
        folder_name_(fs::absolute(run_folder).lexically_normal().filename().string()),
        name_("MLflow " + uri),
        client_(std::make_unique<MlflowClient>(uri, run_folder / "mlflow.json")),
        outbox_(std::make_unique<Outbox>(
            name_, [this](const Json& letter, const std::atomic<bool>& give_up) {
              try {
                client_->send(letter, give_up);
              } catch (const Error& error) {
                return std::string(error.what());
              }
              return std::string();
            })) {}
  std::string name() const override { return name_; }

  void search_started(const SearchSpace&, const Recipe& recipe) override {
    outbox_->put({{"what", "search"}, {"name", recipe.name + " " + folder_name_}});
  }
  void trial_started(const Trial& trial) override { begun_[trial.id] = now_milliseconds(); }
  void trial_ended(const Trial& trial) override {
    if (is_open(trial.status)) return;
    const std::int64_t now = now_milliseconds();
    Json parameters =
        Json::array({pair_of("stage", trial.stage), pair_of("rung", std::to_string(trial.rung))});
    for (std::size_t g = 0; g < std::min(space_.genes().size(), trial.genotype.values.size());
         ++g) {
      if (!space_.active(trial.genotype, g)) continue;
      const Gene& gene = space_.genes()[g];
      parameters.push_back(pair_of(mlflow_name(gene.name),
                                   gene.text(trial.genotype.values[g]).substr(0, kLongestValue)));
    }
    Json metrics = Json::array();
    const auto add = [&](const std::string& metric, double value) {
      if (!std::isfinite(value)) return;
      metrics.push_back({{"key", mlflow_name(metric)},
                         {"value", value},
                         {"timestamp", now},
                         {"step", trial.evaluation.steps}});
    };
    const bool done = trial.status == TrialStatus::Done;
    if (done) add("score", trial.evaluation.score);
    for (const auto& [metric, value] : trial.evaluation.metrics) add(metric, value);
    const bool ended_by_somebody =
        trial.status == TrialStatus::Aborted || trial.status == TrialStatus::Pruned;
    outbox_->put({{"what", "trial"},
                  {"name", concat_text("trial ", trial.id)},
                  {"start", begun_.contains(trial.id) ? begun_.at(trial.id) : now},
                  {"trial_status", to_text(trial.status)},
                  {"status",
                   done                ? "FINISHED"
                   : ended_by_somebody ? "KILLED"
                                       : "FAILED"},
                  {"parameters", std::move(parameters)},
                  {"metrics", std::move(metrics)}});
    begun_.erase(trial.id);
  }
  void search_ended(SearchEnd end) override {
    outbox_->put({{"what", "end"}, {"status", end == SearchEnd::Finished ? "FINISHED" : "KILLED"}});
  }

 private:
  const SearchSpace& space_;
  const std::string folder_name_, name_;
  std::map<std::int64_t, std::int64_t> begun_;
  std::unique_ptr<MlflowClient> client_;
  std::unique_ptr<Outbox> outbox_;  // last: its thread uses the client
};

}  // namespace

std::unique_ptr<SearchListener> make_mlflow_listener(const SearchSpace& space,
                                                     const fs::path& run_folder,
                                                     const std::string& uri) {
  check_url(uri, "--mlflow");
  return std::make_unique<MlflowListener>(space, run_folder, uri);
}

}  // namespace nas

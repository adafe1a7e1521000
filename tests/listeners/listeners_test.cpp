// SPDX-License-Identifier: Apache-2.0
// Listeners that keep folders, write for TensorBoard, and tell servers: real ones, on this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "nas/core/files.h"
#include "nas/core/stopwatch.h"
#include "nas/jobs/leading/keep_listener.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/listeners/event_listeners.h"
#include "nas/listeners/http_client.h"
#include "nas/results/results_db.h"
#include "nas/search/recipe.h"
#include "tests/support/support.h"
#include "tests/support/toy_run.h"
#include "training/data/tensorboard_listener.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using test::ToyRun;
using test::ToySpace;
using testing::Each;
using testing::HasSubstr;

constexpr Budget kSteps{.steps = 20};

/// A search over nothing much with listeners, whose evaluator leaves a model in each folder.
ToyRun search_of(const fs::path& folder,
                 std::vector<SearchListener*> listeners = {},
                 std::int64_t trials = 6) {
  ToyRun search{.folder = folder,
                .recipe = load_recipe("random", strategy_kinds()),
                .listeners = std::move(listeners)};
  search.budget = kSteps;
  search.recipe.stages[0].set("trials", trials);
  search.recipe.stages[0].set("rungs", 1);
  search.evaluator.leaves = {"model/weights", "log.txt", "events.out.tfevents.1.x.0"};
  return search;
}

/// Remembers where RUN/best led when a trial of the search had ended.
class LooksAtBest : public SearchListener {
 public:
  explicit LooksAtBest(fs::path folder) : folder_(std::move(folder)) {}
  std::vector<std::string> leads, finals;
  void trial_ended(const Trial& trial) override {
    if (trial.purpose == TrialPurpose::Retrain) {
      finals.push_back(fs::exists(folder_ / "best") ? "there" : "");
    } else if (fs::is_symlink(folder_ / "best")) {
      leads.push_back(fs::read_symlink(folder_ / "best").string());
    }
  }

 private:
  const fs::path folder_;
};

TEST(Keep, TheBestKeepEverythingOthersSettingsLogAndCurves) {
  TempFolder folder;
  const auto keep = make_keep_listener(folder.path(), 2);
  LooksAtBest looks(folder.path());
  ToyRun search = search_of(folder.path(), {&looks, keep.get()}, 8);
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  const ResultsDb db = search.open();
  std::vector<double> kept, others;
  for (const Trial& trial : db.trials()) {
    const fs::path place = folder / trial.checkpoint;
    const bool whole = fs::exists(place / "model/weights");
    EXPECT_TRUE(fs::exists(place / "log.txt") && fs::exists(place / "events.out.tfevents.1.x.0"));
    EXPECT_EQ(trial.folder_state, whole ? "full" : "key") << trial.id;
    if (trial.purpose != TrialPurpose::Search) {
      EXPECT_TRUE(whole) << "final trainings are not touched";
      continue;
    }
    (whole ? kept : others).push_back(trial.evaluation.score);
    if (whole) continue;
    EXPECT_EQ(read_file(place / "settings.json", 1000), trial.settings);
    EXPECT_FALSE(fs::exists(place / "model")) << "not even empty";
    EXPECT_FALSE(fs::exists(place / "steps"));
  }
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(others.size(), 6u);
  EXPECT_THAT(others, Each(testing::Le(std::min(kept[0], kept[1]))));
  EXPECT_FALSE(fs::exists(folder / "best")) << "a final training's place is free";
  EXPECT_THAT(looks.finals, Each(""));
  const std::string best = "trials/" + std::to_string(db.best_trial("search")->id);
  ASSERT_FALSE(looks.leads.empty());
  EXPECT_EQ(looks.leads.front(), "trials/1") << "the first is the best so far";
  EXPECT_THAT(looks.leads, testing::Contains(testing::AnyOf(best, "trials/1")));
}

TEST(Keep, ASearchThatGoesOnKeepsTheSame) {
  TempFolder one, two;
  const auto run = [](const fs::path& folder, std::int64_t stop_after) {
    ToyRun search = search_of(folder, {}, 8);
    search.evaluator.stop_after = stop_after;
    SearchEnd end{};
    do {
      const auto keep = make_keep_listener(folder, 3);
      search.listeners = {keep.get()};
      end = search.run();
      search.evaluator.stop_after = -1;
    } while (end == SearchEnd::Stopped);
    std::string states;
    for (const Trial& trial : search.open().trials()) states += trial.folder_state + " ";
    return states;
  };
  EXPECT_EQ(run(one.path(), -1), run(two.path(), 12));
}

TEST(Keep, LeavesTrainingsThatAreContinuedAndFoldersThatLeadElsewhere) {
  TempFolder folder, elsewhere;
  std::ofstream(elsewhere / "precious") << "mine";
  fs::create_directories(folder / "trials");
  fs::create_directory_symlink(elsewhere.path(), folder / "trials/2");
  const auto keep = make_keep_listener(folder.path(), 1);
  ToyRun search = search_of(folder.path(), {keep.get()}, 4);
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  EXPECT_TRUE(fs::exists(elsewhere / "precious"));

  class Race : public SearchListener {};
  TempFolder raced;
  const auto again = make_keep_listener(raced.path(), 1);
  ResultsDb db = ResultsDb::create(raced / "results.sqlite", test::small_record(kSteps, 7));
  again->attach(db, search.space);
  Recipe recipe = load_recipe("auto", strategy_kinds());
  again->search_started(search.space, recipe);
  for (std::int64_t id : {1, 2}) {
    Trial trial;
    trial.id = id;
    trial.stage = recipe.stages[0].name;
    trial.status = TrialStatus::Done;
    fs::create_directories(raced / "trials" / std::to_string(id));
    std::ofstream(raced / "trials" / std::to_string(id) / "checkpoint.pt") << "weights";
    again->trial_ended(trial);
  }
  EXPECT_TRUE(fs::exists(raced / "trials/1/checkpoint.pt"));
  EXPECT_TRUE(fs::exists(raced / "trials/2/checkpoint.pt"));
}

/// An HTTP server in a process of its own. It writes each request as a line, and answers as MLflow
/// would.
class Server {
 public:
  explicit Server(const fs::path& folder, const std::string& how = "good") : folder_(folder) {
    const fs::path script = folder / "server.py";
    std::ofstream(script) << R"py(
import http.server, json, sys, time, urllib.parse
folder, how = sys.argv[1:3]
runs = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words): pass
    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def note(self, body):
        with open(folder + "/requests", "a") as log:
            log.write(json.dumps({"method": self.command, "path": self.path, "body": body}) + "\n")
    def do_GET(self):
        self.note(None)
        self.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
    def do_POST(self):
        global runs
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.note(body)
        if how == "hang": time.sleep(60)
        if how == "angry": return self.answer(500, {"message": "not today"})
        if self.path.endswith("experiments/create"): return self.answer(200, {"experiment_id": "5"})
        if self.path.endswith("runs/create"):
            runs += 1
            return self.answer(200, {"run": {"info": {"run_id": "r%d" % runs}}})
        self.answer(200, {})
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
with open(folder + "/port.new", "w") as out: out.write(str(server.server_port))
import os; os.rename(folder + "/port.new", folder + "/port")
server.serve_forever()
)py";
    fs::remove(folder / "port");
    child_ = ::fork();
    if (child_ == 0) {
      ::execlp("python3", "python3", script.c_str(), folder.c_str(), how.c_str(), nullptr);
      ::_exit(127);
    }
    for (int i = 0; i < 1000 && !fs::exists(folder / "port"); ++i) ::usleep(10000);
  }
  ~Server() { stop(); }
  void stop() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  std::string url() const { return "http://127.0.0.1:" + read_file(folder_ / "port", 100); }
  std::vector<Json> requests() const {
    std::vector<Json> all;
    std::ifstream in(folder_ / "requests");
    for (std::string line; std::getline(in, line);) all.push_back(Json::parse(line));
    return all;
  }

 private:
  const fs::path folder_;
  pid_t child_ = 0;
};

TEST(Webhook, GetsEveryEventInOrder) {
  TempFolder folder;
  const Server server(folder.path());
  ToyRun search = search_of(folder.path());
  auto listener = make_webhook_listener(search.space, server.url() + "/hook?a=b");
  search.listeners = {listener.get()};
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  listener.reset();  // what is left is sent
  const std::vector<Json> requests = server.requests();
  ASSERT_GT(requests.size(), 20u);
  EXPECT_EQ(requests.front().at("path"), "/hook?a=b");
  EXPECT_EQ(requests.front().at("method"), "POST");
  EXPECT_EQ(requests.front().at("body").at("event"), "search_started");
  EXPECT_EQ(requests.back().at("body").at("event"), "search_ended");
  std::int64_t ended = 0, last = 0;
  for (const Json& request : requests) {
    const Json& body = request.at("body");
    if (body.at("event") != "trial_ended") continue;
    ++ended;
    EXPECT_GT(body.at("trial").get<std::int64_t>(), last);
    last = body.at("trial");
    EXPECT_EQ(body.at("status"), "done");
    EXPECT_TRUE(body.at("score").is_number());
    EXPECT_TRUE(body.at("values").contains("width"));
  }
  EXPECT_EQ(ended, std::ssize(search.open().trials()));
}

TEST(Webhook, AServerThatIsDeadAngryOrSilentIsNamedAndSlowsNobody) {
  for (const std::string how : {"dead", "angry", "hang"}) {
    TempFolder folder;
    Server server(folder.path(), how);
    const std::string url = server.url();
    if (how == "dead") server.stop();
    ToyRun search = search_of(folder.path());
    testing::internal::CaptureStderr();
    auto listener = make_webhook_listener(search.space, url);
    search.listeners = {listener.get()};
    Stopwatch watch;
    EXPECT_EQ(search.run(), SearchEnd::Finished);
    EXPECT_LT(watch.seconds(), 4) << how << ": the search itself waits for nobody";
    watch.restart();
    listener.reset();
    EXPECT_LT(watch.seconds(), 8) << how << ": nor does its end for long";
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_THAT(said, HasSubstr("webhook " + url)) << how;
    if (how == "angry") {
      EXPECT_THAT(said, HasSubstr("answered 500: {\"message\": \"not today\"}"));
    }
    if (how == "dead") {
      EXPECT_THAT(said, HasSubstr("no answer: "));
    }
    if (how != "hang") {
      EXPECT_THAT(said, HasSubstr("it hears nothing more"));
    }
    if (how == "hang") {
      EXPECT_THAT(said, HasSubstr("were not sent"));
    }
  }
}

TEST(Webhook, AnAddressThatIsNoneIsRefused) {
  const ToySpace space;
  for (const char* url : {"", "example.org", "ftp://a", "http://", "http:///a", "http://a b"}) {
    ErrorKind kind{};
    EXPECT_THAT(error_of([&] { make_webhook_listener(space, url); }, &kind),
                HasSubstr("--webhook: expected an address"))
        << url;
    EXPECT_EQ(kind, ErrorKind::Usage);
  }
  check_url("https://a.example:8080/x?y", "--webhook");
}

TEST(Mlflow, HasARunForTheSearchAndOneForEachTrialAndGoesOnInTheSame) {
  TempFolder folder;
  const Server server(folder.path());
  ToyRun search = search_of(folder.path());
  search.evaluator.stop_after = 3;
  const auto run = [&] {
    auto listener = make_mlflow_listener(search.space, folder.path(), server.url() + "/");
    search.listeners = {listener.get()};
    return search.run();
  };
  ASSERT_EQ(run(), SearchEnd::Stopped);
  search.evaluator.stop_after = -1;
  ASSERT_EQ(run(), SearchEnd::Finished);
  std::int64_t parents = 0, children = 0, batches = 0, width = 0, score = 0;
  std::vector<std::string> of_parent;
  for (const Json& request : server.requests()) {
    const std::string path = request.at("path");
    ASSERT_TRUE(path.starts_with("/api/2.0/mlflow/")) << path;
    if (request.at("method") == "GET") {
      EXPECT_THAT(path, HasSubstr("get-by-name?experiment_name=VoxNAS"));
      continue;
    }
    const Json& body = request.at("body");
    if (path.ends_with("runs/create")) {
      EXPECT_EQ(body.at("experiment_id"), "5");
      const bool child = body.at("tags").dump().find("mlflow.parentRunId") != std::string::npos;
      ++(child ? children : parents);
      if (child) {
        EXPECT_THAT(body.at("tags").dump(), HasSubstr("\"r1\""));
      }
    }
    if (path.ends_with("runs/log-batch")) {
      ++batches;
      EXPECT_NE(body.at("run_id"), "r1");
      for (const Json& one : body.at("params")) width += one.at("key") == "width";
      for (const Json& one : body.at("metrics")) score += one.at("key") == "score";
    }
    if (path.ends_with("runs/update") && body.at("run_id") == "r1")
      of_parent.push_back(body.at("status"));
  }
  const std::int64_t trials = std::ssize(search.open().trials());
  EXPECT_EQ(parents, 1) << "remembered over the break";
  EXPECT_EQ(children, trials);
  EXPECT_EQ(batches, trials);
  EXPECT_EQ(width, trials);
  EXPECT_EQ(score, trials);
  EXPECT_THAT(of_parent, testing::ElementsAre("KILLED", "RUNNING", "FINISHED"));
}

TEST(Tensorboard, ReadsGenesTextAndScoreOfEveryTrial) {
  NAS_PYTHON_OR_SKIP(python);
  TempFolder folder;
  ToyRun search = search_of(folder.path(), {}, 3);
  const auto listener = make_tensorboard_listener(search.space, folder.path());
  search.listeners = {listener.get()};
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  fs::remove(folder / "trials/1/events.out.tfevents.1.x.0");  // of the evaluator: no events
  const fs::path script = folder / "read.py";
  std::ofstream(script) << R"py(
import json, sys
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
a = event_accumulator.EventAccumulator(sys.argv[1]); a.Reload()
out = {"score": a.Scalars("trial/score")[0].value, "step": a.Scalars("trial/score")[0].step}
tag = [t for t in a.Tags()["tensors"] if t.startswith("trial")][0]
out["tag"], out["text"] = tag, a.Tensors(tag)[0].tensor_proto.string_val[0].decode()
out["plugin"] = a.SummaryMetadata(tag).plugin_data.plugin_name
start = metadata.parse_session_start_info_plugin_data(a.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content)
out["settings"] = {k: v.string_value or v.number_value for k, v in start.hparams.items()}
end = metadata.parse_session_end_info_plugin_data(a.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content)
out["status"] = end.status
json.dump(out, open(sys.argv[2], "w"))
)py";
  const fs::path result = folder / "read.json";
  const std::string command = python.string() + " " + script.string() + " " +
                              (folder / "trials/1").string() + " " + result.string() + " 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const Json read = read_json(result);
  const Trial first = *search.open().trial(1);
  EXPECT_NEAR(read.at("score").get<double>(), first.evaluation.score, 1e-6);
  EXPECT_EQ(read.at("step"), first.evaluation.steps);
  EXPECT_EQ(read.at("tag"), "trial 1");
  EXPECT_EQ(read.at("plugin"), "text");
  EXPECT_THAT(read.at("text").get<std::string>(), HasSubstr("| width | 0 |"));
  EXPECT_EQ(read.at("settings").at("width"), "0");
  EXPECT_EQ(read.at("settings").at("kind"), "a");
  EXPECT_EQ(read.at("status"), 1);
}

}  // namespace
}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/dashboard/dashboard.h"
#include "nas/dashboard/event_stream.h"
#include "nas/dashboard/http_rules.h"
#include "nas/dashboard/run_board.h"
#include "nas/results/results_db.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::TempFolder;

constexpr const char* kEvil = "<img src=x onerror=alert(1)>";

Trial queued(std::int64_t proposal, const std::string& genotype = "width=1") {
  Trial trial;
  trial.stage = "search";
  trial.proposal = proposal;
  trial.genotype_text = genotype;
  trial.share = 1;
  return trial;
}

/// A run with three trials: one done, one named to be run by a browser and a spreadsheet, one queued.
ResultsDb make_run(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  RunRecord record = test::small_record({.steps = 100});
  record.folder = folder.string();
  record.recipe_json = R"({"name": "random", "stages": []})";
  ResultsDb db = ResultsDb::create(folder / "results.sqlite", record);
  StageRecord stage;
  stage.name = "search";
  stage.status = "running";
  db.start_stage(stage);
  db.add_trials("search", {queued(0), queued(1, "=1+1"), queued(2)}, {});
  for (int i = 0; i < 2; ++i) {
    const auto claimed = db.claim("search", 0);
    Evaluation evaluation;
    evaluation.status = TrialStatus::Done;
    evaluation.score = 0.5 + 0.1 * i;
    evaluation.metrics = {{"inner_dice", 0.25}};
    evaluation.message = i == 0 ? "" : kEvil;
    db.finish(*claimed, evaluation, 1 + i);
  }
  return db;
}

/// A dashboard that answers while the object lives.
class Served {
 public:
  explicit Served(DashboardOptions options) : dashboard_(options) {
    thread_ = std::thread([this] { dashboard_.serve(); });
    httplib::Client client("127.0.0.1", dashboard_.port());
    for (int i = 0; i < 200 && !client.Get("/favicon.ico"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  ~Served() {
    dashboard_.stop();
    thread_.join();
  }
  Dashboard& operator*() { return dashboard_; }
  std::unique_ptr<httplib::Client> client() const {
    auto made = std::make_unique<httplib::Client>("127.0.0.1", dashboard_.port());
    made->set_read_timeout(30);
    made->set_url_encode(false);
    return made;
  }
  std::string origin() const { return concat_text("http://127.0.0.1:", dashboard_.port()); }

 private:
  Dashboard dashboard_;
  std::thread thread_;
};

Json json_of(const httplib::Result& answer) {
  return answer ? parse_json(answer->body, "answer") : Json("no answer");
}

TEST(HttpRules, HostsOfThisMachineOnly) {
  for (const char* host : {"localhost", "localhost:80", "127.0.0.1:5000", "[::1]:8080", "[::1]"}) {
    EXPECT_TRUE(host_is_allowed(host, {})) << host;
  }
  for (const char* host : {"",
                           "evil.example",
                           "127.0.0.1.evil.example",
                           "localhost.evil",
                           "[::1",
                           "localhost:80@evil",
                           "10.0.0.1"}) {
    EXPECT_FALSE(host_is_allowed(host, {})) << host;
  }
  EXPECT_TRUE(host_is_allowed("lab.example:80", {"lab.example"}));
}

TEST(HttpRules, TokensAndOrigins) {
  EXPECT_TRUE(tokens_equal("abc", "abc"));
  for (const char* other : {"", "ab", "abd", "abcabc"}) EXPECT_FALSE(tokens_equal("abc", other));
  EXPECT_FALSE(tokens_equal("", ""));
  EXPECT_FALSE(tokens_equal("abcabc", "abc"));
  EXPECT_EQ(new_token().size(), 32U);
  EXPECT_NE(new_token(), new_token());
  EXPECT_TRUE(is_same_origin("http://localhost:1", "localhost:1"));
  EXPECT_FALSE(is_same_origin("https://localhost:1", "localhost:1"));
  EXPECT_FALSE(is_same_origin("null", "localhost:1"));
  EXPECT_FALSE(is_same_origin("http://evil", "localhost:1"));
}

TEST(HttpRules, CsvRunsNoFormula) {
  EXPECT_EQ(csv_field("plain"), "plain");
  EXPECT_EQ(csv_field("=1+1"), "'=1+1");
  EXPECT_EQ(csv_field("+a"), "'+a");
  EXPECT_EQ(csv_field("@a,b"), "\"'@a,b\"");
  EXPECT_EQ(csv_field("a\"b"), "\"a\"\"b\"");
}

TEST(Dashboard, ServesPagesAndNumbersOfARun) {
  const TempFolder folder;
  const ResultsDb db = make_run(folder / "run");
  Served served({.place = folder / "run", .version = "1"});
  const auto client = served.client();
  const auto page = client->Get("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_EQ(page->body.find("@HASH@"), std::string::npos);
  EXPECT_NE(page->get_header_value("Content-Security-Policy").find("default-src 'none'"),
            std::string::npos);
  EXPECT_EQ(page->get_header_value("X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(page->get_header_value("Referrer-Policy"), "no-referrer");
  EXPECT_EQ(page->get_header_value("Cross-Origin-Opener-Policy"), "same-origin");
  EXPECT_EQ(page->get_header_value("Cross-Origin-Resource-Policy"), "same-origin");
  EXPECT_FALSE(page->has_header("Access-Control-Allow-Origin"));
  const auto again = client->Get("/", {{"If-None-Match", page->get_header_value("ETag")}});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->status, 304);

  const Json runs = json_of(client->Get("/api/runs"));
  ASSERT_EQ(runs.at("runs").size(), 1U);
  EXPECT_EQ(runs["runs"][0]["trials"], 3);
  const Json head = json_of(client->Get("/api/runs/1"));
  EXPECT_EQ(head.at("stages")[0].at("counts"), (Json{{"done", 2}, {"queued", 1}}));
  const Json all = json_of(client->Get("/api/runs/1/trials"));
  EXPECT_EQ(all.at("trials").at("id"), (Json{1, 2, 3}));
  EXPECT_EQ(all["trials"]["score"], (Json{0.5, 0.6, nullptr}));
  EXPECT_EQ(all["trials"]["metrics"]["inner_dice"], (Json{0.25, 0.25, nullptr}));
  const Json none =
      json_of(client->Get("/api/runs/1/trials?since=" + all.at("rev").get<std::string>()));
  EXPECT_TRUE(none.at("trials").at("id").empty());
  EXPECT_FALSE(none.at("whole").get<bool>());
  const Json trial = json_of(client->Get("/api/runs/1/trials/2"));
  EXPECT_EQ(trial.at("message"), kEvil);  // the page shows it as text
  EXPECT_EQ(json_of(client->Get("/api/runs/1/pareto?x=inner_dice&y=score")).at("points").size(),
            2U);
  const auto csv = client->Get("/api/runs/1/export.csv");
  ASSERT_TRUE(csv);
  EXPECT_NE(csv->body.find("'=1+1"), std::string::npos);
  EXPECT_EQ(csv->body.find(",=1+1"), std::string::npos);
  const Json compared = json_of(client->Get("/api/compare?trials=1:1,1:2"));
  EXPECT_EQ(compared.at("trials").size(), 2U);
  const auto packed = client->Get("/api/runs/1/report", {{"Accept-Encoding", "gzip"}});
  ASSERT_TRUE(packed);
  EXPECT_EQ(packed->get_header_value("Content-Encoding"), "gzip") << packed->body.size();
}

TEST(Dashboard, RefusesWhatItShould) {
  const TempFolder folder;
  ResultsDb db = make_run(folder / "run");
  std::ofstream(folder / "secret") << "secret";
  Served served({.place = folder / "run", .actions = true});
  const auto client = served.client();
  const auto status = [&](const httplib::Result& r) { return r ? r->status : -1; };
  for (const char* path : {"/../secret",
                           "/..%2fsecret",
                           "/%2e%2e/secret",
                           "//etc/passwd",
                           "/app/../../secret",
                           "/app/x/index.html",
                           "/api/runs/2",
                           "/api/runs/1/trials/99999/nothing",
                           "/api/nothing",
                           "/api/runs/1/cases/..%2f..%2fsecret",
                           "/api/runs/x"}) {
    const auto answer = client->Get(path);
    EXPECT_EQ(status(answer), 404) << path;
    EXPECT_TRUE(!answer || answer->body.find("secret\n") == std::string::npos) << path;
  }
  EXPECT_EQ(status(client->Get("/api/runs/1/trials/99")), 400);
  EXPECT_EQ(status(client->Get("/api/runs/1/pareto?x=nothing")), 400);
  EXPECT_EQ(status(client->Get("/api/compare?trials=1:1")), 400);
  EXPECT_EQ(status(client->Get("/api/runs", {{"Host", "evil.example"}})), 403);
  EXPECT_EQ(status(client->Get("/", {{"Host", "evil.example"}})), 403);
  EXPECT_EQ(status(client->Get("/" + std::string(5000, 'a'))), 414);
  EXPECT_EQ(status(client->Get("/api/runs", {{"Range", "bytes=0-1"}})), 416);
  EXPECT_EQ(status(client->Delete("/api/runs/1")), 405);

  const std::string token = (*served).token(), path = "/api/runs/1/actions/abort";
  const httplib::Headers good{{"Origin", served.origin()}, {"X-VoxNAS-Token", token}};
  const auto post = [&](const httplib::Headers& headers,
                        const std::string& body,
                        const char* type = "application/json") {
    return client->Post(path, headers, body, type);
  };
  EXPECT_EQ(status(post({{"X-VoxNAS-Token", token}, {"Origin", "http://evil"}}, "{}")), 403);
  EXPECT_EQ(status(post({{"X-VoxNAS-Token", token}}, "{}")), 403);
  EXPECT_EQ(status(post({{"Origin", served.origin()}}, "{}")), 401);
  EXPECT_EQ(status(post({{"Origin", served.origin()}, {"X-VoxNAS-Token", "x" + token}}, "{}")),
            401);
  EXPECT_EQ(status(post(good, "{}", "text/plain")), 415);
  EXPECT_EQ(status(post(good, std::string(65 << 10, ' '))), 413);
  EXPECT_EQ(status(post(good, "{")), 500);                // no JSON
  EXPECT_EQ(status(post(good, R"({"trial": 1})")), 400);  // it has ended
  EXPECT_EQ(db.wish_of(3), "");

  const auto done = post(good, R"({"trial": 3})");
  EXPECT_EQ(status(done), 200);
  EXPECT_EQ(db.wish_of(3), "stop");
  ASSERT_FALSE(db.events().empty());
  EXPECT_EQ(db.events().back().kind, "abort by dashboard");
  EXPECT_EQ(json_of(done).at("event"), db.events().back().id);
}

TEST(Dashboard, ActsOnlyWhereItWasAsked) {
  const TempFolder folder;
  ResultsDb db = make_run(folder / "run");
  Served served({.place = folder / "run"});
  const auto answer =
      served.client()->Post("/api/runs/1/actions/stop",
                            {{"Origin", served.origin()}, {"X-VoxNAS-Token", (*served).token()}},
                            "{}",
                            "application/json");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 403);
  EXPECT_EQ(db.state(), "running");
  EXPECT_EQ((*served).url().find("#t="), std::string::npos);
}

TEST(Dashboard, OtherAddressesNeedTheTokenForEverything) {
  const TempFolder folder;
  const ResultsDb db = make_run(folder / "run");
  Served served({.place = folder / "run", .bind = "0.0.0.0", .token = "0123456789abcdef"});
  const auto client = served.client();
  const auto without = client->Get("/api/runs"),
             with = client->Get("/api/runs", {{"X-VoxNAS-Token", "0123456789abcdef"}});
  ASSERT_TRUE(without);
  ASSERT_TRUE(with);
  EXPECT_EQ(without->status, 401);
  EXPECT_EQ(with->status, 200);
  EXPECT_EQ(client->Get("/")->status, 200);  // the page itself says nothing of a run
}

TEST(Dashboard, SlowClientsDoNotStopOthers) {
  const TempFolder folder;
  const ResultsDb db = make_run(folder / "run");
  Served served({.place = folder / "run"});
  std::vector<int> slow;
  for (int i = 0; i < 200; ++i) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_GE(descriptor, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>((*served).port()));
    ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    ASSERT_EQ(::connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::send(descriptor, "GET / HT", 8, MSG_NOSIGNAL), 8);
    slow.push_back(descriptor);
  }
  const auto began = std::chrono::steady_clock::now();
  const auto answer = served.client()->Get("/api/runs");
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - began;
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_LT(waited.count(), 2);
  for (const int descriptor : slow) ::close(descriptor);
}

TEST(Dashboard, TellsOfAnEndedTrialWithinASecond) {
  const TempFolder folder;
  ResultsDb db = make_run(folder / "run");
  Served served({.place = folder / "run"});
  const Json all = json_of(served.client()->Get("/api/runs/1/trials"));
  std::string heard;
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    const auto claimed = db.claim("search", 3);
    Evaluation evaluation;
    evaluation.status = TrialStatus::Done;
    evaluation.score = 0.75;
    db.finish(*claimed, evaluation, 4);
  });
  const auto began = std::chrono::steady_clock::now();
  served.client()->Get("/api/events?runs=1", [&](const char* data, std::size_t size) {
    heard.append(data, size);
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - began;
    return heard.find("0.75") == std::string::npos && waited.count() < 5;
  });
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - began;
  writer.join();
  EXPECT_NE(heard.find("event: hello"), std::string::npos);
  EXPECT_NE(heard.find("0.75"), std::string::npos) << heard;
  EXPECT_LT(waited.count(), 1.6);
}

TEST(EventStream, TwentyReadersCostOneLook) {
  const TempFolder folder;
  const ResultsDb db = make_run(folder / "run");
  RunBoard board(folder / "run");
  EventStream stream(board);
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_EQ(stream.looks(), 0);  // nobody follows
  std::vector<std::unique_ptr<EventStream::Reader>> readers;
  for (int i = 0; i < 20; ++i) readers.push_back(stream.follow({1}));
  std::this_thread::sleep_for(std::chrono::milliseconds(2000));
  EXPECT_GE(stream.looks(), 2);
  EXPECT_LE(stream.looks(), 9);
}

TEST(Dashboard, OneReaderTooManyIsToldToAsk) {
  const TempFolder folder;
  const ResultsDb db = make_run(folder / "run");
  Served served({.place = folder / "run"});
  std::atomic<bool> over{false};
  std::atomic<int> following{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 32; ++i) {
    readers.emplace_back([&] {
      bool first = true;
      served.client()->Get("/api/events?runs=1", [&](const char*, std::size_t) {
        if (std::exchange(first, false)) ++following;
        while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return false;
      });
    });
  }
  for (int i = 0; i < 500 && following < 32; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const auto answer = served.client()->Get("/api/events?runs=1");
  over = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(following, 32);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 503);
}

TEST(Dashboard, SaysWhatIsWrongWithThePlaceOrThePort) {
  const TempFolder folder;
  const auto error_of = [](const DashboardOptions& options) {
    return test::error_of([&] { const Dashboard dashboard(options); });
  };
  EXPECT_NE(error_of({.place = folder / "nowhere"}).find("found nothing"), std::string::npos);
  std::filesystem::create_directories(folder / "empty");
  EXPECT_NE(error_of({.place = folder / "empty"}).find("without any run"), std::string::npos);
  std::ofstream(folder / "text.sqlite") << "no database";
  EXPECT_NE(error_of({.place = folder / "text.sqlite"}).find("found something else"),
            std::string::npos);
  const ResultsDb db = make_run(folder / "run");
  const Dashboard first({.place = folder / "run"});
  const std::string taken = error_of({.place = folder / "run", .port = first.port()});
  EXPECT_NE(taken.find("--port 0"), std::string::npos) << taken;
}

}  // namespace
}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/dashboard.h"

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/dashboard/assets.h"
#include "nas/dashboard/case_volumes.h"
#include "nas/dashboard/event_stream.h"
#include "nas/dashboard/http_rules.h"
#include "nas/dashboard/run_board.h"
#include "nas/dashboard/run_pages.h"
#include "nas/imaging/gzip.h"
#include "nas/jobs/steering/enqueue.h"
#include "nas/jobs/steering/steering.h"
#include "nas/report/report.h"

namespace nas {
namespace {

using httplib::Request;
using httplib::Response;

// A client that says nothing holds a thread until it is given up, and one that follows holds one for
// ever: more threads than both together may have. They sleep.
constexpr std::size_t kThreads = 288;
constexpr int kReadSeconds = 5, kIdleSeconds = 60;
constexpr int kMostVolumes = 8;
constexpr double kCommentSeconds = 15;
constexpr const char* kAskedByDashboard = "the dashboard";

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// As a provider with a length, because the library would pack a plain body once more.
void send_bytes(Response& response, std::string body, const std::string& type) {
  const auto shared = std::make_shared<const std::string>(std::move(body));
  if (shared->empty()) return response.set_content("", type);
  response.set_content_provider(
      shared->size(),
      type,
      [shared](std::size_t offset, std::size_t length, httplib::DataSink& sink) {
        return sink.write(shared->data() + offset, std::min(length, shared->size() - offset));
      });
}

void send(const Request& request, Response& response, std::string body, const char* type) {
  constexpr std::size_t kWorthPacking = 512;
  const bool packs = request.get_header_value("Accept-Encoding").find("gzip") != std::string::npos;
  if (packs && body.size() >= kWorthPacking) {
    body = gzip(body);
    response.set_header("Content-Encoding", "gzip");
  }
  send_bytes(response, std::move(body), type);
}

void send_json(const Request& request, Response& response, const Json& json) {
  response.set_header("Cache-Control", "no-store");
  send(request, response, text_of(json), "application/json");
}

void refuse(Response& response, int status, const std::string& why) {
  response.status = status;
  response.set_header("Cache-Control", "no-store");
  response.set_content(text_of({{"error", why}}), "application/json");
}

std::int64_t number(const std::string& text, const char* what) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  NAS_CHECK_KIND(Usage,
                 error == std::errc() && end == text.data() + text.size(),
                 what,
                 ": expected a whole number, found \"",
                 text.substr(0, 64),
                 "\"");
  return value;
}

std::int64_t number_parameter(const Request& request,
                              const char* name,
                              std::int64_t otherwise,
                              std::int64_t low,
                              std::int64_t high) {
  if (!request.has_param(name)) return otherwise;
  return std::clamp(number(request.get_param_value(name), name), low, high);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == separator) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

class NotThere : public Error {
 public:
  explicit NotThere(const std::string& what) : Error(ErrorKind::Usage, what) {}
};

}  // namespace

struct Dashboard::State {
  explicit State(const DashboardOptions& o)
      : options(o),
        token(o.token.empty() ? new_token() : o.token),
        open(is_loopback(o.bind)),
        board(o.place),
        stream(board) {}

  DashboardOptions options;
  std::string token;
  bool open;  // looking needs no token
  RunBoard board;
  EventStream stream;
  httplib::Server server;
  int port = 0;
  std::atomic<int> volumes{0};

  void set_rules();
  void set_assets();
  void set_run_pages();
  void set_case_pages();
  void set_events();
  void set_actions();
  /// Why a request is not served, with its status; 0: it is.
  std::pair<int, std::string> refusal(const Request& request) const;
  bool has_token(const Request& request) const {
    return tokens_equal(request.get_header_value("X-VoxNAS-Token"), token);
  }
  LiveRun& run_of(const std::string& text) {
    const auto run = board.run(number(text, "run"));
    if (!run) throw NotThere("there is no run " + text.substr(0, 20));
    return *run;  // the board keeps it
  }
  Json act(LiveRun& run, const std::string& verb, const Json& body) const;
};

std::pair<int, std::string> Dashboard::State::refusal(const Request& request) const {
  if (request.target.size() > kLongestUrl) return {414, "the address is too long"};
  std::vector<std::string> names = options.hosts;
  if (!open && options.bind != "0.0.0.0" && options.bind != "::") names.push_back(options.bind);
  const std::string host = request.get_header_value("Host");
  if (!host_is_allowed(host, names)) {
    return {403, "this name of the machine is not allowed; --host NAME allows it"};
  }
  const bool post = request.method == "POST";
  if (!post && request.method != "GET" && request.method != "HEAD") {
    return {405, "only GET, and POST for actions"};
  }
  if (request.has_header("Range")) return {416, "no parts of answers"};
  const bool page = !request.path.starts_with("/api/");  // of ours, the same for everybody
  if (post) {
    if (!options.actions) return {403, "actions are off; voxnas dashboard --actions allows them"};
    if (!is_same_origin(request.get_header_value("Origin"), host)) {
      return {403, "the request came from a page of somebody else"};
    }
    const std::string type = request.get_header_value("Content-Type");
    if (type != "application/json" && !type.starts_with("application/json;")) {
      return {415, "expected Content-Type: application/json"};
    }
  }
  if ((post || (!open && !page)) && !has_token(request)) {
    return {401, "expected the token in the header X-VoxNAS-Token; the printed address has it"};
  }
  return {0, ""};
}

void Dashboard::State::set_rules() {
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_tcp_nodelay(true);
  server.set_socket_options([](socket_t socket) {
    // The library's own choice lets a second program take the same port.
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_payload_max_length(kLargestBody);
  server.set_read_timeout(kReadSeconds);
  server.set_write_timeout(kReadSeconds);
  server.set_keep_alive_timeout(kIdleSeconds);
  server.set_keep_alive_max_count(1000);
  server.set_pre_routing_handler([this](const Request& request, Response& response) {
    const auto [status, why] = refusal(request);
    if (status == 0) return httplib::Server::HandlerResponse::Unhandled;
    refuse(response, status, why);
    return httplib::Server::HandlerResponse::Handled;
  });
  server.set_post_routing_handler([](const Request& request, Response& response) {
    const bool picture = request.path.ends_with(".svg") && request.path.starts_with("/api/");
    for (const auto& [name, value] : security_headers(picture)) {
      if (!response.has_header(name.c_str())) response.set_header(name, value);
    }
  });
  server.set_error_handler([](const Request&, Response& response) {
    if (!response.body.empty() || response.status < 400) return;
    refuse(response,
           response.status,
           response.status == 404   ? "there is no such page"
           : response.status == 413 ? "expected at most 64 kB"
                                    : "the request cannot be answered");
  });
  server.set_exception_handler(
      [](const Request&, Response& response, const std::exception_ptr& thrown) {
        try {
          std::rethrow_exception(thrown);
        } catch (const NotThere& error) {
          refuse(response, 404, error.what());
        } catch (const Error& error) {
          refuse(response, error.kind() == ErrorKind::Usage ? 400 : 500, error.what());
        } catch (const std::bad_alloc&) {
          refuse(response, 500, "not enough memory");
        } catch (const std::exception& error) {
          refuse(response, 500, error.what());
        }
      });
}

void Dashboard::State::set_assets() {
  const auto answer =
      [](const Request& request, Response& response, const WebAsset& asset, bool kept) {
        const std::string tag = '"' + web_assets_hash() + '"';
        response.set_header("ETag", tag);
        response.set_header("Cache-Control",
                            kept ? "public, max-age=31536000, immutable" : "no-cache");
        if (request.get_header_value("If-None-Match") == tag) {
          response.status = 304;
          return;
        }
        response.set_header("Content-Encoding", "gzip");
        response.set_content_provider(
            asset.gzip.size(),
            std::string(asset.type),
            [text = asset.gzip](std::size_t offset, std::size_t length, httplib::DataSink& sink) {
              return sink.write(text.data() + offset, std::min(length, text.size() - offset));
            });
      };
  for (const WebAsset& asset : web_assets()) {
    const std::string name(asset.name);
    // The dots of a name stand for any letter in the pattern; only our own names exist.
    server.Get("/app/" + web_assets_hash() + "/" + name,
               [answer, &asset](const Request& q, Response& r) { answer(q, r, asset, true); });
  }
  const auto page = std::ranges::find(web_assets(), "index.html", &WebAsset::name);
  server.Get("/", [page](const Request& request, Response& response) {
    const auto bytes = std::as_bytes(std::span(page->gzip));
    const std::vector<std::byte> plain = inflate_prefix(bytes, 1 << 20);
    std::string text(reinterpret_cast<const char*>(plain.data()), plain.size());
    constexpr std::string_view kMark = "@HASH@";
    for (std::size_t at = 0; (at = text.find(kMark, at)) != std::string::npos;) {
      text.replace(at, kMark.size(), web_assets_hash());
    }
    response.set_header("ETag", '"' + web_assets_hash() + '"');
    response.set_header("Cache-Control", "no-cache");
    if (request.get_header_value("If-None-Match") == '"' + web_assets_hash() + '"') {
      response.status = 304;
      return;
    }
    send(request, response, std::move(text), "text/html; charset=utf-8");
  });
  const auto icon = std::ranges::find(web_assets(), "favicon.svg", &WebAsset::name);
  server.Get("/favicon.ico",
             [answer, icon](const Request& q, Response& r) { answer(q, r, *icon, false); });
  server.Get("/api/about", [this](const Request& request, Response& response) {
    send_json(request,
              response,
              {{"version", options.version},
               {"missing", missing_web_assets()},
               {"actions", options.actions},
               {"place", options.place.string()}});
  });
}

void Dashboard::State::set_run_pages() {
  server.Get("/api/runs", [this](const Request& q, Response& r) { send_json(q, r, board.list()); });
  server.Get("/api/runs/(\\d{1,9})", [this](const Request& q, Response& r) {
    send_json(q, r, run_head(run_of(q.matches[1])));
  });
  server.Get("/api/runs/(\\d{1,9})/trials", [this](const Request& q, Response& r) {
    send_json(q, r, run_of(q.matches[1]).changes(q.get_param_value("since")));
  });
  server.Get("/api/runs/(\\d{1,9})/trials/(\\d{1,12})", [this](const Request& q, Response& r) {
    send_json(q, r, trial_page(run_of(q.matches[1]), number(q.matches[2], "trial")));
  });
  server.Get("/api/runs/(\\d{1,9})/trials/(\\d{1,12})/curves",
             [this](const Request& q, Response& r) {
               const auto points = number_parameter(q, "points", 500, 10, 5000);
               send_json(q,
                         r,
                         trial_curves(run_of(q.matches[1]),
                                      number(q.matches[2], "trial"),
                                      static_cast<std::size_t>(points)));
             });
  server.Get("/api/runs/(\\d{1,9})/trials/(\\d{1,12})/log", [this](const Request& q, Response& r) {
    constexpr std::int64_t kMostOfLog = 64 << 10;
    const auto bytes = number_parameter(q, "tail", kMostOfLog, 1, kMostOfLog);
    send_json(q,
              r,
              {{"log",
                trial_log(run_of(q.matches[1]),
                          number(q.matches[2], "trial"),
                          static_cast<std::size_t>(bytes))}});
  });
  server.Get("/api/runs/(\\d{1,9})/trials/(\\d{1,12})/graph.svg",
             [this](const Request& q, Response& r) {
               std::string svg = trial_drawing(run_of(q.matches[1]), number(q.matches[2], "trial"));
               r.set_header("Cache-Control", "no-store");
               send(q, r, std::move(svg), "image/svg+xml");
             });
  server.Get("/api/runs/(\\d{1,9})/report", [this](const Request& q, Response& r) {
    Json report = run_of(q.matches[1]).report();
    // The super-networks' histories are what the trials' table does not have.
    Json histories = Json::array();
    for (Json& trial : report["trials"]) {
      if (trial.contains("details")) {
        histories.push_back({{"id", trial["id"]},
                             {"stage", trial["stage"]},
                             {"details", std::move(trial["details"])}});
      }
    }
    report["super_networks"] = std::move(histories);
    report.erase("trials");
    send_json(q, r, report);
  });
  server.Get("/api/runs/(\\d{1,9})/pareto", [this](const Request& q, Response& r) {
    const auto name = [&](const char* key, const char* otherwise) {
      return q.has_param(key) ? q.get_param_value(key) : std::string(otherwise);
    };
    send_json(
        q,
        r,
        pareto_page(
            run_of(q.matches[1]), name("x", "params"), name("y", "score"), name("of", "search")));
  });
  server.Get("/api/runs/(\\d{1,9})/export.csv", [this](const Request& q, Response& r) {
    r.set_header("Cache-Control", "no-store");
    r.set_header("Content-Disposition", "attachment; filename=\"trials.csv\"");
    send(q, r, trials_csv(run_of(q.matches[1])), "text/csv; charset=utf-8");
  });
  server.Get("/api/compare", [this](const Request& q, Response& r) {
    std::vector<TrialOfRun> trials;
    for (const std::string& pair : split(q.get_param_value("trials"), ',')) {
      const std::vector<std::string> words = split(pair, ':');
      NAS_CHECK_KIND(Usage,
                     words.size() == 2,
                     "trials: expected run:trial,run:trial, found \"",
                     pair.substr(0, 64),
                     "\"");
      trials.push_back({.number = number(words[0], "run"),
                        .run = &run_of(words[0]),
                        .trial = number(words[1], "trial")});
    }
    NAS_CHECK_KIND(Usage,
                   trials.size() >= 2 && trials.size() <= 5,
                   "trials: expected two to five, found ",
                   trials.size());
    send_json(q, r, compare_page(trials));
  });
}

void Dashboard::State::set_case_pages() {
  server.Get("/api/runs/(\\d{1,9})/cases", [this](const Request& q, Response& r) {
    send_json(q, r, cases_page(run_of(q.matches[1])));
  });
  /// At most kMostVolumes at once: each may take gigabytes.
  const auto bounded = [this](const auto& work) {
    return [this, work](const Request& q, Response& r) {
      struct Guard {
        std::atomic<int>& count;
        ~Guard() { --count; }
      } guard{volumes};
      if (++volumes > kMostVolumes) {
        r.set_header("Retry-After", "1");
        return refuse(r, 503, "too many volumes at once; try again");
      }
      work(q, r);
    };
  };
  server.Get("/api/runs/(\\d{1,9})/cases/([^/]{1,200})/volume/([a-z0-9-]{1,40})\\.nii\\.gz",
             bounded([this](const Request& q, Response& r) {
               VolumeAnswer volume = case_volume(run_of(q.matches[1]), q.matches[2], q.matches[3]);
               r.set_header("Cache-Control", "no-store");
               if (!volume.note.empty()) r.set_header("X-VoxNAS-Note", volume.note);
               send_bytes(r, std::move(volume.bytes), "application/octet-stream");
             }));
  server.Get("/api/runs/(\\d{1,9})/cases/([^/]{1,200})/errors",
             bounded([this](const Request& q, Response& r) {
               send_json(
                   q, r, case_errors(run_of(q.matches[1]), q.matches[2], q.get_param_value("of")));
             }));
  server.Get("/api/runs/(\\d{1,9})/cases/([^/]{1,200})/slice\\.png",
             bounded([this](const Request& q, Response& r) {
               r.set_header("Cache-Control", "no-store");
               r.set_content(case_slice(run_of(q.matches[1]),
                                        q.matches[2],
                                        q.get_param_value("of"),
                                        number_parameter(q, "channel", 0, 0, 1000),
                                        number_parameter(q, "axis", 0, 0, 2),
                                        number_parameter(q, "i", -1, -1, 1 << 20)),
                             "image/png");
             }));
}

void Dashboard::State::set_events() {
  server.Get("/api/events", [this](const Request& q, Response& r) {
    std::vector<std::int64_t> runs;
    for (const std::string& word : split(q.get_param_value("runs"), ',')) {
      run_of(word);
      runs.push_back(number(word, "runs"));
    }
    std::shared_ptr<EventStream::Reader> reader = stream.follow(runs);
    if (!reader) return refuse(r, 503, "too many pages follow already; ask every 5 seconds");
    r.set_header("Cache-Control", "no-store");
    r.set_header("X-Accel-Buffering", "no");
    auto said_hello = std::make_shared<bool>(false);
    r.set_chunked_content_provider(
        "text/event-stream", [reader, said_hello](std::size_t, httplib::DataSink& sink) {
          if (!std::exchange(*said_hello, true)) {
            constexpr std::string_view kHello = "event: hello\ndata: {}\n\n";
            return sink.write(kHello.data(), kHello.size());
          }
          const auto text = reader->next(kCommentSeconds);
          if (!text) {
            sink.done();
            return true;
          }
          const std::string said = text->empty() ? ": still here\n\n" : *text;
          return sink.write(said.data(), said.size());
        });
  });
}

Json Dashboard::State::act(LiveRun& run, const std::string& verb, const Json& body) const {
  const JsonReader reader(body, "the request");
  const std::int64_t id = run.run();
  ResultsDb db = ResultsDb::open(run.file(), id);
  std::int64_t trial = 0;
  std::string said;
  if (verb == "abort" || verb == "skip") {
    trial = reader.at("trial").integer(1, INT64_MAX);
    said = verb == "abort" ? abort_trial(db, trial) : skip_trial(db, trial);
  } else if (verb == "suspend" || verb == "resume") {
    const std::string name = reader.at("worker").text();
    said = verb == "suspend" ? suspend_worker(db, name) : resume_worker(db, name);
  } else if (verb == "enqueue") {
    said = enqueue_genotype(db, reader.at("genotype").text(), kAskedByDashboard);
  } else if (verb == "note") {
    trial = reader.at("trial").integer(1, INT64_MAX);
    db.annotate({trial, "note", reader.at("text").text(), kAskedByDashboard});
    said = concat_text("trial ", trial, ": noted");
  } else {
    said = stop_run(db, reader.has("now") && reader.at("now").boolean());
  }
  db.add_event(db.clock(), trial, verb + " by dashboard", said);
  const std::vector<EventRecord> events = db.events();
  return {{"done", said}, {"event", events.empty() ? 0 : events.back().id}};
}

void Dashboard::State::set_actions() {
  server.Post("/api/runs/(\\d{1,9})/actions/(abort|skip|suspend|resume|enqueue|stop|note)",
              [this](const Request& q, Response& r) {
                LiveRun& run = run_of(q.matches[1]);
                send_json(q, r, act(run, q.matches[2], parse_json(q.body, "the request")));
              });
}

Dashboard::Dashboard(const DashboardOptions& options) : state_(std::make_unique<State>(options)) {
  State& s = *state_;
  s.set_rules();
  s.set_assets();
  s.set_run_pages();
  s.set_case_pages();
  s.set_events();
  s.set_actions();
  if (options.port == 0) {
    s.port = s.server.bind_to_any_port(options.bind);
    NAS_CHECK_KIND(Io, s.port > 0, options.bind, ": this address cannot be bound");
  } else {
    NAS_CHECK_KIND(Io,
                   s.server.bind_to_port(options.bind, options.port),
                   options.bind,
                   ":",
                   options.port,
                   ": cannot be bound; another program has the port, or it is not allowed "
                   "(--port 0 takes a free one)");
    s.port = options.port;
  }
}

Dashboard::~Dashboard() = default;

std::string Dashboard::url() const {
  const State& s = *state_;
  const std::string& bind = s.options.bind;
  std::string url = concat_text(
      "http://", bind.find(':') == std::string::npos ? bind : "[" + bind + "]", ":", s.port, "/");
  if (s.options.actions || !s.open) url += "#t=" + s.token;
  return url;
}

int Dashboard::port() const { return state_->port; }
const std::string& Dashboard::token() const { return state_->token; }
void Dashboard::serve() { state_->server.listen_after_bind(); }

void Dashboard::stop() {
  state_->stream.stop();
  state_->server.stop();
}

}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include "nas/plugins/external_controller.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/process_peer.h"
#include "nas/plugins/space_json.h"
#include "nas/search/draws.h"
#include "nas/search/ledger.h"
#include "nas/search/strategy.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"external\"";
constexpr std::int64_t kMostProposals = 10'000;  // in one answer

StageOption command_option() {
  return {"command", Json::array(), [](const JsonReader& reader) {
            Json words = Json::array();
            for (std::size_t i = 0; i < reader.size(); ++i) words.push_back(reader.at(i).text());
            return words;
          }};
}

class ExternalController : public Strategy {
 public:
  explicit ExternalController(const StrategyContext& context)
      : context_(context),
        draws_(context_),
        ledger_("external"),
        peer_({.command = context.stage.words("command"),
               .name = "controller",
               .seconds = context.stage.number("seconds")}),
        trials_(std::max<std::int64_t>(1, context.budget.trials)) {
    const Json hello = answer({{"do", "hello"}, {"protocol", 1}, {"role", "controller"}});
    if (hello.is_object() && hello.contains("name") && hello.at("name").is_string()) {
      name_ = hello.at("name").get<std::string>().substr(0, 100);
    }
    answer({{"do", "set_space"},
            {"space", space_to_json(*context_.space)},
            {"groups", draws_.groups()},
            {"trials", trials_},
            {"seed", Rng(context_.rng).split("external").integer(0, std::int64_t{1} << 53)}});
    for (const Genotype& anchor : draws_.anchors()) {
      if (static_cast<std::int64_t>(ledger_.size()) < trials_ && draws_.take(anchor)) add(anchor);
    }
  }

  std::vector<Proposal> ask(std::int64_t count) override {
    std::vector<Proposal> ready = ledger_.ask(count);
    if (!ready.empty() || finished()) return ready;
    const std::int64_t left = trials_ - own();
    if (left <= 0) return {};
    const std::string where = "controller: proposals";
    const Json reply = call({{"do", "ask"}, {"count", std::min(count, left)}});
    const JsonReader reader(reply, "controller");
    reader.check_keys({"proposals", "finished"});
    if (reader.has("finished")) over_ = reader.at("finished").boolean();
    if (reader.has("proposals")) {
      const JsonReader list = reader.at("proposals");
      NAS_CHECK(static_cast<std::int64_t>(list.size()) <= kMostProposals,
                where,
                ": more than ",
                kMostProposals);
      for (std::size_t i = 0; i < list.size(); ++i) take(list.at(i));
    }
    ready = ledger_.ask(count);
    if (ready.empty() && ledger_.complete()) {
      // Nothing open, and nothing new.
      if (refused_ + 1 >= kMostRefused) draws_.check_any();
      NAS_CHECK(over_ || ++refused_ < kMostRefused,
                "controller (",
                context_.stage.words("command").front(),
                "): it proposes nothing new and says not that it has finished; its last line: ",
                peer_.last_line());
      if (!over_) return ask(count);
    }
    refused_ = 0;
    return ready;
  }

  void tell(const std::vector<Outcome>& outcomes) override {
    ledger_.tell(outcomes);
    for (const Outcome& outcome : outcomes) {
      const Ledger::Row& row = ledger_.row(outcome.number);
      Json told{{"do", "tell"},
                {"number", outcome.number},
                {"values", values_to_json(*context_.space, row.proposal.genotype)},
                {"status", to_text(outcome.status)},
                {"score", row.done() ? Json(outcome.score) : Json(nullptr)},
                {"steps", outcome.steps}};
      if (!row.proposal.asked_by.empty()) told["asked_by"] = row.proposal.asked_by;
      answer(told);
    }
  }

  /// The program hears of it when it is told the outcome.
  Adoption adopt(const Genotype& genotype, const std::string& by) override {
    return adopt_next(draws_, ledger_, equal_share(context_, genotype, trials_), by);
  }

  bool finished() const override {
    const bool all = own() >= trials_;
    return ledger_.complete() && (over_ || all);
  }
  void close() override { over_ = true; }
  std::int64_t planned_trials() const override {
    return finished() ? static_cast<std::int64_t>(ledger_.size()) : trials_;
  }
  Winner winner() const override { return ledger_.best_training(); }
  std::string story() const override {
    return Json{{"controller", name_},
                {"command", context_.stage.words("command")},
                {"turned_away", turned_away_},
                {"draws", draws_.counts()}}
        .dump();
  }

  std::string save() const override {
    return Json{{"ledger", ledger_.save()},
                {"draws", draws_.counts()},
                {"over", over_},
                {"turned_away", turned_away_},
                {"peer", const_cast<ExternalController*>(this)->answer({{"do", "save"}})}}
        .dump();
  }
  void load(const std::string& state) override {
    const Json json = parse_json(state, kWhere);
    const JsonReader reader(json, kWhere);
    ledger_.load(reader.at("ledger"));
    draws_.load(reader.at("draws"), ledger_);
    over_ = reader.at("over").boolean();
    turned_away_ = reader.at("turned_away").integer();
    answer({{"do", "load"}, {"state", reader.at("peer").json()}});
  }

 private:
  static constexpr int kMostRefused = 100;

  Json call(const Json& request) { return peer_.call(request); }
  /// The value of "ok" or "state".
  Json answer(const Json& request) {
    Json reply = peer_.call(request);
    for (const char* key : {"ok", "state"}) {
      if (reply.contains(key)) return reply.at(key);
    }
    fail(ErrorKind::Input,
         "controller (",
         context_.stage.words("command").front(),
         "): expected an answer with \"ok\" to \"",
         request.at("do").get<std::string>(),
         "\", found: ",
         peer_.last_line());
  }

  /// Proposals but those of others.
  std::int64_t own() const { return std::ssize(ledger_.rows()) - ledger_.adopted(); }

  void add(const Genotype& genotype) { ledger_.add(equal_share(context_, genotype, trials_)); }

  void take(const JsonReader& proposal) {
    Genotype genotype;
    try {
      proposal.check_keys({"values"});
      genotype = values_from_json(*context_.space, proposal.at("values"));
    } catch (const Error& error) {
      fail(ErrorKind::Input, error.what(), "; its line: ", peer_.last_line());
    }
    std::string reason = context_.space->invalid_reason(genotype);
    if (reason.empty() && !draws_.reachable(genotype, context_.start)) {
      reason = "changes genes outside of the stage's groups";
    }
    if (reason.empty() && !draws_.take(genotype)) {
      reason = "was proposed before, or breaks a limit of the search";
    }
    if (reason.empty()) {
      add(genotype);
      return;
    }
    ++turned_away_;
    answer({{"do", "tell"},
            {"number", -1},
            {"values", proposal.at("values").json()},
            {"status", "refused"},
            {"score", nullptr},
            {"message", reason}});
  }

  const StrategyContext context_;
  Draws draws_;
  Ledger ledger_;
  ProcessPeer peer_;
  std::string name_ = "external";
  std::int64_t trials_, turned_away_ = 0;
  int refused_ = 0;
  bool over_ = false;
};

}  // namespace

const StrategyKind& external_kind() {
  static const StrategyKind kind = {
      .name = "external",
      .words = "a program of yours decides",
      .options = {trials_option(),
                  command_option(),
                  number_option("seconds", 10, {.low = 0, .high = 86400, .low_open = true})},
      .check =
          [](const StageSpec& stage, const std::string& where) {
            NAS_CHECK_KIND(
                Usage,
                !stage.words("command").empty(),
                where,
                ".command: expected a list with a program and its arguments, found none");
          },
      .async = true,
      .adopts = true,
      .starts_programs = true,
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<ExternalController>(context);
      }};
  return kind;
}

}  // namespace nas

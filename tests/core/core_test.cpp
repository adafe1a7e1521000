// SPDX-License-Identifier: Apache-2.0
// The ground floor: files, hashes, JSON, text, randomness and threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <thread>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/hash.h"
#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/core/open_table.h"
#include "nas/core/philox.h"
#include "nas/core/progress.h"
#include "nas/core/quantity.h"
#include "nas/core/rng.h"
#include "nas/core/stop.h"
#include "nas/core/text.h"
#include "nas/core/threads.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t kMiB = 1 << 20;

/// The message and kind of the Error that `action` throws; a test failure if it throws none.
struct Caught {
  ErrorKind kind{};
  std::string message;
};
Caught caught(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  ADD_FAILURE() << "expected nas::Error, nothing was thrown";
  return {};
}

/// Runs `body` in a child process and returns what waitpid reports.
pid_t start_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  return child;
}
int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// ---------------------------------------------------------------- randomness

TEST(Philox, ReproducesTheKnownAnswersOfItsAuthors) {
  // kat_vectors of Random123 for philox4x32, 10 rounds.
  const auto words = [](const Philox4& p) { return std::vector<std::uint32_t>(p.v, p.v + 4); };
  EXPECT_EQ(words(philox4x32(0, 0, 0)),
            (std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(philox4x32(~0ull, ~0ull, ~0ull)),
            (std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words(philox4x32(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull)),
            (std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, GivesTheSameIntegersOnEveryMachine) {
  Rng rng(42);
  EXPECT_EQ(rng.key(), 0xbb1fc1a4ff8aa8f4ull);
  std::vector<std::uint32_t> words(6);
  for (auto& word : words) word = rng.bits();
  EXPECT_EQ(words,
            (std::vector<std::uint32_t>{
                0x1b7b9a56, 0xc7797b44, 0x0dd5e34e, 0xd2656bf8, 0x370e9089, 0xf2edd116}));
  Rng child = Rng(42).split("augment", 3, 7);
  EXPECT_EQ(child.key(), 0xbc5c340f3608fe72ull);
  EXPECT_EQ(child.bits64(), 0x9a2d7672c26de5ceull);
  EXPECT_EQ(Rng("mutation-test").key(), 0x63032d6cc1b7c72eull);

  Rng digits(42);
  std::vector<std::int64_t> drawn(10);
  for (auto& digit : drawn) digit = digits.integer(0, 10);
  EXPECT_EQ(drawn, (std::vector<std::int64_t>{6, 2, 5, 2, 5, 1, 2, 2, 4, 1}));
}

TEST(Rng, SplitsAreIndependentOfTheParentsPlaceAndOfEachOther) {
  Rng moved(7);
  moved.bits64();
  EXPECT_EQ(moved.split("a").key(), Rng(7).split("a").key());
  std::set<std::uint64_t> keys;
  for (int i = 0; i < 100; ++i) {
    keys.insert(Rng(7).split("a", i).key());
    keys.insert(Rng(7).split("b", i).key());
    keys.insert(Rng(7).split("a", i, 0).key());
    keys.insert(Rng(7).split("a").split("a", i).key());
  }
  EXPECT_EQ(keys.size(), 400u);
  EXPECT_NE(Rng(1).split("ab").split("c").key(), Rng(1).split("a").split("bc").key());
}

TEST(Rng, RestoresFromKeyAndCounter) {
  Rng rng("state");
  rng.normal();
  rng.bits();
  Rng copy = Rng::restore(rng.key(), rng.counter());
  EXPECT_EQ(copy, rng);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(copy.bits(), rng.bits());
}

TEST(Rng, IsUniformNormalAndUnbiased) {
  constexpr int kDraws = 60000;
  Rng rng("statistics");
  std::vector<int> counts(6);
  double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0;
  int hits = 0;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<std::size_t>(rng.integer(-3, 3) + 3)];
    const double u = rng.uniform(2.0, 4.0);
    ASSERT_GE(u, 2.0);
    ASSERT_LT(u, 4.0);
    sum += u;
    squares += u * u;
    const double n = rng.normal();
    normal_sum += n;
    normal_squares += n * n;
    hits += rng.chance(0.2) ? 1 : 0;
  }
  // Five standard errors each; chi-square with 5 degrees of freedom is below 20.5 in 99.9 % of
  // seeds.
  double chi_square = 0;
  for (const int count : counts) chi_square += std::pow(count - kDraws / 6.0, 2) / (kDraws / 6.0);
  EXPECT_LT(chi_square, 20.5);
  EXPECT_NEAR(sum / kDraws, 3.0, 5 * std::sqrt(1.0 / 3 / kDraws));
  EXPECT_NEAR(squares / kDraws - std::pow(sum / kDraws, 2), 1.0 / 3, 0.01);
  EXPECT_NEAR(normal_sum / kDraws, 0.0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(normal_squares / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(hits / double{kDraws}, 0.2, 5 * std::sqrt(0.16 / kDraws));
  EXPECT_EQ(caught([&] { rng.integer(3, 3); }).kind, ErrorKind::Internal);
  // The whole range of 64 bits must not overflow.
  for (int i = 0; i < 100; ++i) rng.integer(INT64_MIN, INT64_MAX);
}

TEST(Rng, ShufflesEveryPermutationEqually) {
  Rng rng("shuffle");
  std::map<std::vector<int>, int> seen;
  for (int i = 0; i < 6000; ++i) {
    std::vector<int> items{0, 1, 2};
    rng.shuffle(items);
    ++seen[items];
  }
  ASSERT_EQ(seen.size(), 6u);
  for (const auto& [items, count] : seen) EXPECT_NEAR(count, 1000, 150);
}

// ---------------------------------------------------------------- files

TEST(Files, ReadsWholeFilesWithinTheLimit) {
  const TempFolder folder;
  for (const std::size_t size : {0u, 1u, 4095u, 4096u, 70000u}) {
    std::string content(size, 'x');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31 % 251);
    write_file_atomic(folder / "f", content);
    EXPECT_EQ(read_file(folder / "f", kMiB), content);
  }
  const Caught large = caught([&] { read_file(folder / "f", 69999); });
  EXPECT_EQ(large.kind, ErrorKind::Io);
  EXPECT_THAT(large.message,
              AllOf(HasSubstr("/f"), HasSubstr("at most 69999"), HasSubstr("70000")));
  EXPECT_THAT(caught([&] { read_file(folder / "none", kMiB); }).message,
              AllOf(HasSubstr("none"), HasSubstr("No such file")));
  EXPECT_THAT(caught([&] { read_file(folder.path(), kMiB); }).message, HasSubstr("directory"));
  // A device claims size 0 and never ends: the limit holds for what is really read.
  EXPECT_EQ(caught([&] { read_file("/dev/zero", kMiB); }).kind, ErrorKind::Io);
}

TEST(Files, AtomicWriteCreatesFoldersAndLeavesNoTraceOfAFailure) {
  const TempFolder folder;
  const fs::path file = folder / "a/b/c.json";
  write_file_atomic(file, "old");
  EXPECT_EQ(read_file(file, kMiB), "old");
  EXPECT_THROW(write_path_atomic(file,
                                 [&](const fs::path& temporary) {
                                   EXPECT_EQ(temporary.parent_path(), file.parent_path());
                                   EXPECT_EQ(temporary.extension(), ".json");
                                   std::ofstream(temporary) << "half";
                                   throw std::runtime_error("stopped in the middle");
                                 }),
               std::runtime_error);
  EXPECT_EQ(read_file(file, kMiB), "old");
  EXPECT_EQ(files_in(file.parent_path()), 1u);
  // A file stands where a folder is needed; a folder stands where the file is needed.
  EXPECT_EQ(caught([&] { write_file_atomic(file / "x", ""); }).kind, ErrorKind::Io);
  EXPECT_EQ(caught([&] { write_file_atomic(folder / "a", ""); }).kind, ErrorKind::Io);
  const std::string refused = caught([] { write_file_atomic("/proc/name.json", ""); }).message;
  EXPECT_THAT(refused, AllOf(HasSubstr("/proc/name.json"), Not(HasSubstr(".tmp-"))));
  EXPECT_EQ(files_in(folder.path()), 1u);
  // The longest name that the file system takes still works.
  write_file_atomic(folder / std::string(250, 'n'), "x");
  EXPECT_EQ(read_file(folder / std::string(250, 'n'), kMiB), "x");
}

TEST(Files, APlaceForResultsIsCheckedBeforeThereAreAny) {
  const TempFolder folder;
  const fs::path place = folder / "runs/one";
  check_writable(place);
  EXPECT_EQ(files_in(folder.path()), 0u);
  create_folder(place);
  create_folder(place);  // one that is there will do
  check_writable(place);
  write_file_atomic(place / "file", "x");
  for (const auto& refused : {caught([&] { check_writable(place / "file/below"); }),
                              caught([&] { create_folder(place / "file/below"); })}) {
    EXPECT_EQ(refused.kind, ErrorKind::Io);
    EXPECT_THAT(refused.message, AllOf(HasSubstr("one/file/below"), HasSubstr("directory")));
  }
  if (::geteuid() == 0) return;  // root may write anywhere
  fs::permissions(place, fs::perms::owner_read | fs::perms::owner_exec);
  for (const fs::path& refused : {place, place / "below"}) {
    EXPECT_THAT(caught([&] { check_writable(refused); }).message,
                AllOf(HasSubstr(refused.string()), HasSubstr("Permission denied")));
  }
  fs::permissions(place, fs::perms::owner_all);
}

TEST(Files, AFullDiskIsAnErrorAndKeepsTheOldFile) {
  const TempFolder folder;
  write_file_atomic(folder / "f", "old");
  // The limit on file size stands in for a full disk: write() fails in the middle.
  const int status = wait_for(start_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{65536, 65536};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomic(folder / "f", std::string(kMiB, 'n'));
    } catch (const Error& error) {
      return error.kind() == ErrorKind::Io &&
                     std::string(error.what()).find("too large") != std::string::npos
                 ? 0
                 : 1;
    }
    return 2;
  }));
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "f", kMiB), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(Files, AFolderIsReplacedWholeAndWhatKilledWritersLeftIsRemoved) {
  const test::TempFolder folder;
  write_file_atomic(folder / "fresh/a", "new");
  replace_folder(folder / "fresh", folder / "model");  // nothing there yet
  EXPECT_EQ(read_file(folder / "model/a", 10), "new");
  EXPECT_FALSE(std::filesystem::exists(folder / "fresh"));

  write_file_atomic(folder / "fresh/b", "newer");
  replace_folder(folder / "fresh", folder / "model");
  EXPECT_EQ(read_file(folder / "model/b", 10), "newer");
  EXPECT_FALSE(std::filesystem::exists(folder / "model/a")) << "no mixture of both";
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "nothing else is left";
  EXPECT_THROW(replace_folder(folder / "no such folder", folder / "model"), Error);
  EXPECT_EQ(read_file(folder / "model/b", 10), "newer") << "the old one stays";

  write_file_atomic(temporary_name(folder / "model/b"), "half");
  write_file_atomic(temporary_name(folder / "c") / "inside", "half");
  remove_temporaries(folder.path());
  EXPECT_EQ(std::distance(std::filesystem::recursive_directory_iterator(folder.path()), {}), 2);
  EXPECT_EQ(read_file(folder / "model/b", 10), "newer");
  EXPECT_NO_THROW(remove_temporaries(folder / "no such folder"));
}

TEST(Files, AReaderNeverSeesPartOfAFileWhoseWriterIsKilled) {
  const TempFolder folder;
  const fs::path file = folder / "state";
  const auto version = [](int i) { return std::string(200000, static_cast<char>('a' + i % 26)); };
  write_file_atomic(file, version(0));
  for (int round = 0; round < 8; ++round) {
    const pid_t writer = start_child([&] {
      for (int i = 0;; ++i) write_file_atomic(file, version(i));
      return 0;
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(5 + 7 * round);
    do {
      const std::string content = read_file(file, kMiB);
      EXPECT_EQ(content.size(), 200000u);
      EXPECT_EQ(std::count(content.begin(), content.end(), content[0]), 200000);
    } while (std::chrono::steady_clock::now() < end);
    ::kill(writer, SIGKILL);
    wait_for(writer);
  }
}

TEST(Files, MapsAFileAndMovesTheMap) {
  const TempFolder folder;
  write_file_atomic(folder / "f", "mapped bytes");
  write_file_atomic(folder / "empty", "");
  MappedFile map(folder / "f");
  ASSERT_EQ(map.bytes().size(), 12u);
  EXPECT_EQ(std::memcmp(map.bytes().data(), "mapped bytes", 12), 0);
  MappedFile moved = std::move(map);
  EXPECT_EQ(moved.bytes().size(), 12u);
  MappedFile empty(folder / "empty");
  EXPECT_TRUE(empty.bytes().empty());
  empty = std::move(moved);
  EXPECT_EQ(std::memcmp(empty.bytes().data(), "mapped bytes", 12), 0);
  EXPECT_THAT(caught([&] { MappedFile missing(folder / "none"); }).message, HasSubstr("none"));
  EXPECT_EQ(caught([&] { MappedFile device("/dev/null"); }).kind, ErrorKind::Io);
}

TEST(Files, TheLockExcludesOtherProcesses) {
  const TempFolder folder;
  write_file_atomic(folder / "count", "0");
  std::vector<pid_t> children;
  children.reserve(4);
  for (int c = 0; c < 4; ++c) {
    children.push_back(start_child([&] {
      for (int i = 0; i < 25; ++i) {
        const FileLock lock(folder / "locks/count.lock");
        const int count = std::stoi(read_file(folder / "count", kMiB));
        std::this_thread::yield();
        std::ofstream(folder / "count") << count + 1;
      }
      return 0;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(read_file(folder / "count", kMiB), "100");
}

// ---------------------------------------------------------------- hashes

TEST(Hash, IsXxh3OnEveryMachine) {
  // Published values of XXH3_128bits with seed 0.
  EXPECT_EQ(hash_hex(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_hex("a"), "a96faf705af16834e6c632b61e964e1f");
  const TempFolder folder;
  write_file_atomic(folder / "f", std::string(100000, 'q'));
  EXPECT_EQ(hash_file(folder / "f"), hash_hex(std::string(100000, 'q')));
  EXPECT_THROW(hash_file(folder / "none"), Error);
}

TEST(Hash, SeveralPiecesDoNotRunTogether) {
  EXPECT_NE(Hasher().add("ab").add("c").hex(), Hasher().add("a").add("bc").hex());
  EXPECT_NE(Hasher().add("").hex(), Hasher().hex());
  const std::string length("\x03\0\0\0\0\0\0\0", 8);
  EXPECT_EQ(Hasher().add("abc").hex(), hash_hex(length + "abc"));
}

// ---------------------------------------------------------------- JSON

TEST(Json, ErrorsNamePlaceExpectationAndFinding) {
  const auto message = [](const std::string& text) {
    return caught([&] { parse_json(text, "plan.json"); }).message;
  };
  EXPECT_THAT(message("{\n  \"a\": ]"),
              AllOf(HasSubstr("plan.json: expected JSON"),
                    HasSubstr("line 2"),
                    testing::Not(HasSubstr("json.exception"))));
  EXPECT_THAT(message(""), HasSubstr("plan.json"));
  EXPECT_THAT(message("{\"a\":1} x"), HasSubstr("plan.json"));
  EXPECT_THAT(message("[1e999]"), HasSubstr("plan.json"));
  EXPECT_THAT(message("\"\xff\""), HasSubstr("plan.json"));
  EXPECT_THAT(message(R"({"x":{"a":1,"b":2,"a":3}})"),
              AllOf(HasSubstr("\"a\""), HasSubstr("twice")));
  EXPECT_NO_THROW(parse_json(R"([{"a":1},{"a":{"a":2}}])", "same key at other places"));
}

TEST(Json, NestingIsBounded) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_NO_THROW(parse_json(nested(64), "x"));
  EXPECT_THAT(caught([&] { parse_json(nested(65), "x"); }).message, HasSubstr("64"));
  EXPECT_THROW(parse_json(std::string(2000000, '['), "x"), Error);
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_THROW(parse_json(objects, "x"), Error);
}

TEST(Json, ReaderKnowsItsPath) {
  const Json value = parse_json(
      R"({"labels":{"tumour":"x","organ":1},"shape":[1,2.5],"spacing":[1,0.5],"big":18446744073709551615,)"
      R"("deep":{"list":[{"flag":true}]}})",
      "test");
  const JsonReader root(value, "dataset.json");
  const auto message = [](const auto& action) { return caught(action).message; };
  EXPECT_EQ(message([&] { root.at("labels").at("tumour").integer(); }),
            "dataset.json: labels.tumour: expected an integer, found \"x\"");
  EXPECT_EQ(message([&] { root.at("shape").integers(); }),
            "dataset.json: shape[1]: expected an integer, found 2.5");
  EXPECT_EQ(message([&] { root.at("big").integer(); }),
            "dataset.json: big: expected an integer, found 18446744073709551615");
  EXPECT_EQ(message([&] { root.at("labels").at("organ").integer(2, 9); }),
            "dataset.json: labels.organ: expected an integer in [2, 9], found 1");
  EXPECT_EQ(message([&] { root.at("deep").at("list").at(0).at("flag").text(); }),
            "dataset.json: deep.list[0].flag: expected a string, found true");
  EXPECT_EQ(message([&] { root.at("labels").number(); }),
            "dataset.json: labels: expected a number, found an object with 2 members");
  EXPECT_THAT(message([&] { root.at("lables"); }), HasSubstr("\"labels\""));
  EXPECT_THAT(message([&] { root.at("shape").at(2); }), HasSubstr("found 2"));
  EXPECT_THAT(message([&] { root.at("shape").at("x"); }), HasSubstr("array with 2 elements"));
  EXPECT_EQ(root.at("spacing").numbers(), (std::vector<double>{1.0, 0.5}));
  EXPECT_TRUE(root.at("deep").at("list").at(0).at("flag").boolean());
  EXPECT_EQ(root.at("labels").keys(), (std::vector<std::string>{"organ", "tumour"}));
  EXPECT_TRUE(root.has("shape"));
  EXPECT_FALSE(root.at("shape").has("shape"));
  EXPECT_THAT(message([&] { root.at("labels").texts(); }), HasSubstr("expected an array"));
}

TEST(Json, UnknownKeysAreUsageErrorsWithTheNearestName) {
  const Json value = Json{{"learning_rte", 1}};
  const Caught error = caught([&] {
    JsonReader(value, "options").check_keys({"learning_rate", "momentum"});
  });
  EXPECT_EQ(error.kind, ErrorKind::Usage);
  EXPECT_EQ(error.message,
            "options: unknown key \"learning_rte\"; did you mean \"learning_rate\"?");
  EXPECT_THAT(caught([&] {
                JsonReader(Json{{"zzz", 1}}, "options").check_keys({"a_name", "other"});
              }).message,
              HasSubstr("expected one of a_name, other"));
  EXPECT_NO_THROW(JsonReader(value, "o").check_keys({"learning_rte"}));
}

TEST(Json, NearestWordFindsTyposOnly) {
  const std::vector<std::string> known{"conv", "conv_transpose", "instance_norm", "add"};
  EXPECT_EQ(nearest_word("cnov", known), "conv");
  EXPECT_EQ(nearest_word("Instance_Norm", known), "instance_norm");
  EXPECT_EQ(nearest_word("instancenorm", known), "instance_norm");
  EXPECT_EQ(nearest_word("pooling", known), "");
  EXPECT_EQ(nearest_word("", known), "");
  EXPECT_EQ(nearest_word(std::string(1 << 20, 'a'), known), "");
  EXPECT_EQ(did_you_mean("cnov", known), "; did you mean 'conv'?");
  EXPECT_EQ(did_you_mean("cnov", known, ""), "; did you mean conv?");
  EXPECT_EQ(did_you_mean("pooling", known), "");
}

TEST(Text, JoinsWords) {
  EXPECT_EQ(joined({}), "");
  EXPECT_EQ(joined({"a"}), "a");
  EXPECT_EQ(joined({"a", "", "c"}), "a, , c");
  EXPECT_EQ(joined({"a", "b"}, "\", \""), "a\", \"b");
}

TEST(Json, WritesCanonicallyAndReadsBack) {
  const TempFolder folder;
  const Json value = {{"b", {1, 2.5, "text"}}, {"a", nullptr}, {"bad utf-8", "\xff"}};
  write_json(folder / "v.json", value);
  const Json again = read_json(folder / "v.json");
  EXPECT_EQ(again["b"], value["b"]);
  EXPECT_THAT(read_file(folder / "v.json", kMiB), testing::StartsWith("{\n  \"a\": null,\n"));
  EXPECT_THAT(caught([&] { read_json(folder / "v.json", 5); }).message, HasSubstr("v.json"));
}

// Damaged text ends in a value or an Error, never in anything else.
TEST(Json, DamagedTextNeverCrashes) {
  const std::string good =
      R"({"name":"Task04 \u00e9","labels":{"0":"background","1":"Anterior"},"n":[1,-2.5e3,true,null,"x\n"]})";
  Rng rng("damaged-json");
  for (int i = 0; i < 5000; ++i) {
    std::string text = good;
    for (std::int64_t change = rng.integer(1, 5); change > 0; --change) {
      const auto at =
          static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(text.size())));
      switch (rng.integer(0, 4)) {
        case 0:
          text[at] = static_cast<char>(rng.bits());
          break;
        case 1:
          text.resize(at + 1);
          break;
        case 2:
          text.insert(at, text.substr(0, 20));
          break;
        default:
          text[at] = "{}[]\",:0"[rng.integer(0, 8)];
          break;
      }
    }
    try {
      const Json value = parse_json(text, "x");
      value.dump(-1, ' ', true, Json::error_handler_t::replace);
    } catch (const Error&) {
    }
  }
}

// ---------------------------------------------------------------- text for people

TEST(Text, FormatsAsADoctorReads) {
  EXPECT_EQ(format_duration(0.0123), "12 ms");
  EXPECT_EQ(format_duration(12.34), "12.3 s");
  EXPECT_EQ(format_duration(59.97), "1 min 00 s");
  EXPECT_EQ(format_duration(200), "3 min 20 s");
  EXPECT_EQ(format_duration(3599.7), "1 h 00 min");
  EXPECT_EQ(format_duration(3720), "1 h 02 min");
  EXPECT_EQ(format_duration(86400 * 2 + 3600 * 3), "2 d 03 h");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_bytes(1.234e9), "1.23 GB");
  EXPECT_EQ(format_bytes(640e6), "640 MB");
  EXPECT_EQ(format_bytes(999.9e6), "1.00 GB");
  EXPECT_EQ(format_bytes(17), "17 B");
  EXPECT_EQ(format_count(5.66e6), "5.66 M");
  EXPECT_EQ(format_count(12345), "12.3 k");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(NAN), "?");
}

TEST(Text, ParsesDurations) {
  EXPECT_EQ(parse_duration("90"), 90);
  EXPECT_EQ(parse_duration("90s"), 90);
  EXPECT_EQ(parse_duration("20m"), 1200);
  EXPECT_EQ(parse_duration("2h"), 7200);
  EXPECT_EQ(parse_duration("1d"), 86400);
  EXPECT_EQ(parse_duration("1h30m"), 5400);
  EXPECT_EQ(parse_duration("1h 30m 5s"), 5405);
  EXPECT_EQ(parse_duration("1.5h"), 5400);
  for (const char* bad : {"",
                          " ",
                          "h",
                          "20x",
                          "-5m",
                          "1h30",
                          "30m1h",
                          "1h1h",
                          "inf",
                          "nan",
                          "0x10",
                          "1e3",
                          "m20",
                          "20 m x"}) {
    const Caught error = caught([&] { parse_duration(bad); });
    EXPECT_EQ(error.kind, ErrorKind::Usage) << bad;
    EXPECT_THAT(error.message, HasSubstr(concat_text("\"", bad, "\"")));
  }
}

/// Collects log lines while it lives.
class CapturedLog {
 public:
  CapturedLog() {
    set_log_sink(
        [this](LogLevel level, const std::string& text) { lines.emplace_back(level, text); });
  }
  ~CapturedLog() { set_log_sink(nullptr); }
  std::vector<std::pair<LogLevel, std::string>> lines;
};

TEST(Log, LevelsAndSink) {
  CapturedLog log;
  log_line(LogLevel::Debug, "hidden");
  log_info("trial ", 3, " done");
  set_log_level(LogLevel::Warning);
  log_info("hidden");
  log_warning("careful");
  set_log_level(LogLevel::Info);
  ASSERT_EQ(log.lines.size(), 2u);
  EXPECT_EQ(log.lines[0].second, "trial 3 done");
  EXPECT_EQ(log.lines[1].first, LogLevel::Warning);
}

TEST(ProgressLine, IsOnePlainLineAtTheEndWhereThereIsNoTerminal) {
  CapturedLog log;
  {
    Progress progress("training", 400, "steps");
    parallel_for(
        400, [&](std::int64_t i) { progress.advance(1, concat_text("loss ", i)); }, 4);
    EXPECT_TRUE(log.lines.empty());
    progress.finish();
    progress.finish();
  }
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_THAT(log.lines[0].second,
              AllOf(HasSubstr("training: 400/400 steps"), HasSubstr("loss "), HasSubstr("/s")));
}

// ---------------------------------------------------------------- threads

TEST(Threads, VisitsEveryIndexOnce) {
  EXPECT_GE(processor_count(), 1);
  for (const int threads : {0, 1, 3, 50}) {
    std::vector<std::atomic<int>> visits(1000);
    parallel_for(
        1000, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; }, threads);
    for (const auto& visit : visits) EXPECT_EQ(visit, 1);
  }
  parallel_for(0, [](std::int64_t) { FAIL(); });
  parallel_for(-5, [](std::int64_t) { FAIL(); });
}

TEST(Threads, RethrowsTheFirstExceptionAfterAllStopped) {
  for (const int threads : {1, 4}) {
    std::atomic<int> running{0}, started{0};
    const auto body = [&](std::int64_t i) {
      ++running;
      ++started;
      if (i == 5) {
        --running;
        fail(ErrorKind::Input, "case 5 is damaged");
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      --running;
    };
    EXPECT_THAT(caught([&] { parallel_for(100000, body, threads); }).message, "case 5 is damaged");
    EXPECT_EQ(running, 0);
    EXPECT_LT(started, 1000);
  }
}

TEST(Threads, TheFirstSignalAsksToStopTheSecondEndsTheProcess) {
  const int status = wait_for(start_child([] {
    install_stop_handler();
    if (stop_requested()) return 1;
    ::raise(SIGTERM);
    if (!stop_requested()) return 2;
    ::raise(SIGINT);
    return 3;
  }));
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGINT);
  request_stop();
  EXPECT_TRUE(stop_requested());
  request_stop(false);
  EXPECT_FALSE(stop_requested());
}

TEST(OpenTable, TakesRowsUntilItIsReadAndEachNameOnce) {
  const auto message = [](const std::function<void()>& what) { return test::error_of(what); };
  OpenTable<std::string> table("word", [](const std::string& row) { return row; }, {"one"});
  table.add("two");
  EXPECT_THAT(message([&] { table.add("one"); }), HasSubstr("word 'one': is there already"));
  EXPECT_THAT(message([&] { table.add(""); }), HasSubstr("with a name"));
  EXPECT_EQ(table.rows(), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(*table.find("two"), "two");
  EXPECT_EQ(table.find("three"), nullptr);
  EXPECT_THAT(message([&] { table.add("three"); }),
              AllOf(HasSubstr("word 'three'"), HasSubstr("before the table is first read")));
}

}  // namespace
}  // namespace nas

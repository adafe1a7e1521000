// SPDX-License-Identifier: Apache-2.0
#include "training/data/tensorboard.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "tests/support/support.h"

namespace nas {
namespace {

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

template <class T>
T number_at(const std::string& bytes, std::size_t place) {
  T value{};
  std::memcpy(&value, bytes.data() + place, sizeof(T));
  return value;
}

/// The serialised events of a file, framing checked.
std::vector<std::string> records(const std::string& bytes) {
  std::vector<std::string> found;
  for (std::size_t place = 0; place < bytes.size();) {
    if (place + 12 > bytes.size()) throw std::runtime_error("truncated header");
    const auto length = static_cast<std::size_t>(number_at<std::uint64_t>(bytes, place));
    EXPECT_EQ(number_at<std::uint32_t>(bytes, place + 8), masked_crc32c(bytes.substr(place, 8)));
    if (place + 16 + length > bytes.size()) throw std::runtime_error("truncated record");
    found.push_back(bytes.substr(place + 12, length));
    EXPECT_EQ(number_at<std::uint32_t>(bytes, place + 12 + length), masked_crc32c(found.back()));
    place += 16 + length;
  }
  return found;
}

TEST(Crc32c, HasTheStandardParameters) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
}

TEST(EventWriter, FramesEveryRecordAndOpensANewFileOnResume) {
  const test::TempFolder folder;
  const std::filesystem::path run = folder / "deep" / "run";
  EventWriter first(run, 1000.5);
  first.scalar("loss", 0.25, 7, 1001);
  first.flush();
  EventWriter second(run, 1000.5);  // the same second
  EXPECT_NE(first.file(), second.file());

  const std::vector<std::string> found = records(bytes_of(first.file()));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_NE(found[0].find("brain.Event:2"), std::string::npos);
  EXPECT_NE(found[1].find("loss"), std::string::npos);
  EXPECT_EQ(records(bytes_of(second.file())).size(), 1u);
}

TEST(EventWriter, NamesWhatItCannotWrite) {
  const test::TempFolder folder;
  std::ofstream(folder / "file") << "x";
  try {
    EventWriter writer(folder / "file" / "run", 1);
    FAIL() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Io);
    EXPECT_NE(std::string(e.what()).find("run"), std::string::npos) << e.what();
  }
}

TEST(EventWriter, IsReadByTensorboardItself) {
  NAS_PYTHON_OR_SKIP(python);
  const std::string probe = python.string() + " -c 'import tensorboard' 2>/dev/null";
  if (std::system(probe.c_str()) != 0) GTEST_SKIP() << "needs the Python package tensorboard";
  const test::TempFolder folder;
  const std::filesystem::path run = folder / "run";
  {
    EventWriter writer(run, 1000);
    for (int step = 1; step <= 5; ++step) writer.scalar("loss", 1.0 / step, step, 1000 + step);
  }
  {
    EventWriter resumed(run, 2000);
    resumed.scalar("loss", 0.125, 6, 2001);
    resumed.scalar("dice/liver", 0.5, 6, 2001);
  }
  const std::filesystem::path script = folder / "read.py";
  std::ofstream(script) <<
      R"(import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
loss = [(e.step, e.value) for e in events.Scalars("loss")]
assert [s for s, _ in loss] == [1, 2, 3, 4, 5, 6], loss
assert abs(loss[1][1] - 0.5) < 1e-7 and loss[5][1] == 0.125, loss
assert events.Scalars("dice/liver")[0].value == 0.5
assert events.Scalars("loss")[0].wall_time == 1001
)";
  const std::string command = python.string() + " '" + script.string() + "' '" + run.string() + "'";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace nas

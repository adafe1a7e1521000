// SPDX-License-Identifier: Apache-2.0
// Files that Python wrote, read without Python.
#include "nas/network/torch_file.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using Kind = PickleValue::Kind;
using testing::ElementsAre;
using testing::HasSubstr;

/// Runs Python lines with `out` as the path to write. False if they fail.
bool run_python(const std::filesystem::path& python,
                const std::filesystem::path& out,
                const std::string& lines) {
  const std::filesystem::path script = out.string() + ".py";
  write_file_atomic(script, "import sys\nout = sys.argv[1]\n" + lines);
  const std::string command =
      python.string() + " '" + script.string() + "' '" + out.string() + "' >/dev/null 2>&1";
  return std::system(command.c_str()) == 0;
}

TEST(TorchFile, PicklesOfEveryProtocolGiveTheirValues) {
  NAS_PYTHON_OR_SKIP(python);
  const test::TempFolder temp;
  for (int protocol = 2; protocol <= 5; ++protocol) {
    const std::filesystem::path file = temp / ("p" + std::to_string(protocol));
    ASSERT_TRUE(
        run_python(python,
                   file,
                   "import pickle, collections, fractions\n"
                   "shared = [1, 2]\n"
                   "big = {'k%d' % i: i for i in range(3000)}\n"
                   "value = {'none': None, 'yes': True, 'no': False, 'int': -123456789,\n"
                   "  'long': 2**40, 'negative': -2**33, 'huge': 2**80, 'real': -2.5,\n"
                   "  'text': 'Gr\\u00f6\\u00dfe', 'bytes': b'abc', 'tuple': (1, (2, 3), 4, 5),\n"
                   "  'empty': (), 'a': shared, 'b': shared, 'set': {1, 2}, 7: 'seven',\n"
                   "  'ordered': collections.OrderedDict(x=1, y=2), 'big': big,\n"
                   "  'object': fractions.Fraction(1, 3)}\n"
                   "value['self'] = value\n"
                   "open(out, 'wb').write(pickle.dumps(value, " +
                       std::to_string(protocol) + "))\n"));
    const std::string bytes = read_file(file, 1 << 20);
    std::deque<PickleValue> values;
    const PickleValue& root = read_pickle(std::as_bytes(std::span(bytes)), "p", values);
    const auto at = [&](const char* key) -> const PickleValue& {
      const PickleValue* found = root.find(key);
      if (found == nullptr) ADD_FAILURE() << key;
      return found != nullptr ? *found : root;
    };
    EXPECT_EQ(at("none").kind, Kind::None);
    EXPECT_EQ(at("yes").kind, Kind::Bool);
    EXPECT_EQ(at("yes").integer, 1);
    EXPECT_EQ(at("no").integer, 0);
    EXPECT_EQ(at("int").integer, -123456789);
    EXPECT_EQ(at("long").integer, std::int64_t{1} << 40);
    EXPECT_EQ(at("negative").integer, -(std::int64_t{1} << 33));
    EXPECT_EQ(at("huge").kind, Kind::Opaque);
    EXPECT_EQ(at("real").real, -2.5);
    EXPECT_EQ(at("text").text, "Gr\u00f6\u00dfe");
    EXPECT_EQ(at("bytes").kind, Kind::Opaque);
    ASSERT_EQ(at("tuple").items.size(), 4U);
    EXPECT_EQ(at("tuple").items[1]->items[1]->integer, 3);
    EXPECT_EQ(at("empty").kind, Kind::Tuple);
    EXPECT_EQ(&at("a"), &at("b"));
    EXPECT_EQ(at("set").kind, Kind::Opaque);
    EXPECT_EQ(&at("self"), &root);
    EXPECT_EQ(at("object").kind, Kind::Opaque);
    ASSERT_EQ(at("ordered").kind, Kind::Dict);
    ASSERT_NE(at("ordered").find("y"), nullptr);
    EXPECT_EQ(at("ordered").find("y")->integer, 2);
    ASSERT_NE(at("big").find("k2999"), nullptr);
    EXPECT_EQ(at("big").find("k2999")->integer, 2999);
    EXPECT_EQ(root.find("absent"), nullptr);
  }
}

TEST(TorchFile, TorchsTensorsKeepValuesTypesAndStrides) {
  NAS_PYTHON_OR_SKIP(python);
  const test::TempFolder temp;
  const std::filesystem::path file = temp / "t.pth";
  if (!run_python(
          python,
          file,
          "import importlib.util as i\n"
          "sys.exit(not all(map(i.find_spec, ['torch', 'sympy', 'filelock', 'networkx'])))\n")) {
    GTEST_SKIP() << "needs Python's torch";
  }
  ASSERT_TRUE(run_python(
      python,
      file,
      "import torch\n"
      "x = torch.arange(12, dtype=torch.float32).reshape(3, 4)\n"
      "m = torch.nn.Linear(2, 1)\n"
      "torch.nn.init.constant_(m.weight, 0.5)\n"
      "torch.save({'x': x, 'turned': x.t(), 'part': x[1:, 2], 'scalar': torch.tensor(3.5),\n"
      "  'half': x.half(), 'bf16': x.bfloat16(), 'double': x.double(), 'long': x.long(),\n"
      "  'none': torch.zeros(0, 3), 'repeated': torch.ones(1).expand(1000),\n"
      "  'state': m.state_dict(), 'parameter': m.weight}, out)\n"));
  const TorchFile read(file);
  const auto floats = [&](const char* key) { return read.floats(*read.root().find(key)); };
  const std::vector<float> x = floats("x");
  ASSERT_EQ(x.size(), 12U);
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(x[i], static_cast<float>(i));
  for (const char* key : {"half", "bf16", "double", "long"}) EXPECT_EQ(floats(key), x) << key;
  EXPECT_THAT(floats("turned"), ElementsAre(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
  EXPECT_THAT(read.root().find("turned")->tensor->shape, ElementsAre(4, 3));
  EXPECT_THAT(floats("part"), ElementsAre(6, 10));
  EXPECT_THAT(floats("scalar"), ElementsAre(3.5F));
  EXPECT_TRUE(floats("none").empty());
  EXPECT_THROW(floats("repeated"), Error);  // larger than its storage
  EXPECT_THROW(floats("state"), Error);     // no tensor
  const PickleValue* weight = read.root().find("state")->find("weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_THAT(read.floats(*weight), ElementsAre(0.5F, 0.5F));
  EXPECT_THAT(floats("parameter"), ElementsAre(0.5F, 0.5F));
}

TEST(TorchFile, OtherFilesAreNamed) {
  const test::TempFolder temp;
  const auto message = [&](const std::string& content) -> std::string {
    write_file_atomic(temp / "x.pth", content);
    try {
      TorchFile file(temp / "x.pth");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("no archive"), HasSubstr("x.pth: expected a file of torch.save"));
  EXPECT_THAT(message(""), HasSubstr("x.pth"));
  EXPECT_THROW(TorchFile(temp / "absent.pth"), Error);
}

}  // namespace
}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include "nas/core/exception_text.h"

#include <new>
#include <stdexcept>

#include <gtest/gtest.h>

namespace nas {
namespace {

TEST(ExceptionText, LeavesOutLibTorchsStack) {
  EXPECT_EQ(exception_text(std::runtime_error(
                "[enforce fail at inline_container.cc:720] . invalid file name: liver\n"
                "frame #0: c10::ThrowEnforceNotMet(char const*) + 0x5 (0x7f in libc10.so)\n")),
            "invalid file name: liver");
  EXPECT_EQ(exception_text(std::runtime_error(
                "sizes disagree\nat the second input\nException raised from infer at Tensor.cpp:1 "
                "(most recent call first):\nframe #0: c10::Error::Error() + 0x2\n")),
            "sizes disagree\nat the second input");
}

TEST(ExceptionText, LeavesOtherTextsAlone) {
  EXPECT_EQ(exception_text(std::runtime_error("frame #0 is missing")), "frame #0 is missing");
  EXPECT_EQ(exception_text(std::runtime_error("[enforce fail at x] ")), "[enforce fail at x]");
  EXPECT_EQ(exception_text(std::runtime_error("")), "");
  EXPECT_EQ(exception_text(std::bad_alloc()), "out of memory");
}

}  // namespace
}  // namespace nas

// SPDX-License-Identifier: Apache-2.0
#include "training/model/memory_share.h"

namespace nas {

double set_memory_share(int /*device*/, double /*share*/) { return 0; }

}  // namespace nas

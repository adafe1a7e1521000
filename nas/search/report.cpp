// SPDX-License-Identifier: Apache-2.0
#include "nas/search/report.h"

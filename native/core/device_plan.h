// An attention plan in the form that kernels of a device read: for each query where its columns' keys are, for each key
// which queries may see it.
#pragma once

#include <vector>

#include "../cuda/kernels.h"
#include "attention_plan.h"

namespace vg {

struct DevicePlan {
    std::vector<DeviceQuery> queries;  // [T]
    std::vector<int32_t> first_use;    // [n_keys + 1] into uses
    std::vector<DeviceKeyUse> uses;    // in the order of the blocks
};
DevicePlan device_plan(const AttentionPlan & plan);

}  // namespace vg

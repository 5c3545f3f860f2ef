// The one exception the core throws. The binding turns it into a JavaScript Error with `code` and `hint`.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace vg {

struct Error : std::runtime_error {
    std::string code;  // one of NativeErrorCode in src/native/addon.ts
    std::string hint;  // what to do next, may be empty

    Error(std::string code_, const std::string & message, std::string hint_ = "")
        : std::runtime_error(message), code(std::move(code_)), hint(std::move(hint_)) {}
};

}  // namespace vg

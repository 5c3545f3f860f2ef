// What a file that is not GGUF seems to be, so that an error can say more than "wrong magic".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace vg {

struct ForeignFile {
    std::string what;  // "a Git LFS pointer", fits after "found"
    std::string hint;  // the next step
};

ForeignFile recognise_foreign_file(const uint8_t * data, size_t size);

}  // namespace vg

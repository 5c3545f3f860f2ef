// A whole file, mapped read-only. Anything that is not a readable regular file with bytes in it gives
// vg::Error("E_MODEL").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace vg {

class MappedFile {
  public:
    explicit MappedFile(const std::string & path);
    ~MappedFile();
    MappedFile(const MappedFile &) = delete;
    MappedFile & operator=(const MappedFile &) = delete;

    const std::string & path() const { return path_; }
    // Page-aligned. The file must not be shortened by others while it is mapped.
    const uint8_t * data() const { return data_; }
    size_t size() const { return size_; }

  private:
    std::string path_;
    const uint8_t * data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace vg

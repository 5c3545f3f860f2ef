// The bytes of an audio file, in memory or behind a file descriptor. Read by position and never mapped: a file that
// another program shortens meanwhile then reads as truncated, where a mapping would end the process, and a long file
// does not count as memory of this one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vg {

class ByteSource {
  public:
    explicit ByteSource(std::vector<uint8_t> bytes);
    // A regular file, open for reading; the descriptor is duplicated. Throws vg::Error("E_AUDIO").
    explicit ByteSource(int descriptor);
    ~ByteSource();
    ByteSource(const ByteSource &) = delete;
    ByteSource & operator=(const ByteSource &) = delete;

    uint64_t size() const { return size_; }
    // Bytes copied: fewer than n at the end, or where the file cannot be read any more.
    size_t read(uint64_t at, void * out, size_t n) const;

    const uint8_t * memory() const { return descriptor_ < 0 ? bytes_.data() : nullptr; }

  private:
    std::vector<uint8_t> bytes_;
    int descriptor_ = -1;
    uint64_t size_ = 0;
};

// Throws vg::Error("E_ABORTED") once the flag is set.
void check_abort(const std::atomic<bool> & abort);

// A walk over a source through a buffer that moves along.
class ByteWindow {
  public:
    static constexpr size_t CAPACITY = size_t(1) << 17;  // more than the longest Ogg page, 65,307 bytes

    explicit ByteWindow(const ByteSource & source) : source_(source) {}

    uint64_t size() const { return source_.size(); }
    // Bytes [at, at + n), valid until the next call; null where they are not all there. n is at most CAPACITY.
    const uint8_t * at(uint64_t at, size_t n);
    bool starts_with(uint64_t at, const char * text);

  private:
    const ByteSource & source_;
    std::vector<uint8_t> buffer_;
    uint64_t begin_ = 0;
};

}  // namespace vg

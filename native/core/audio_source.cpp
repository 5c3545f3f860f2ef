#include "audio_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

namespace vg {

ByteSource::ByteSource(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)), size_(bytes_.size()) {}

ByteSource::ByteSource(int descriptor) : descriptor_(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)) {
    struct stat status;
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
        std::string why = std::strerror(errno);
        if (descriptor_ >= 0) {
            ::close(descriptor_);
        }
        throw Error("E_AUDIO", "the file cannot be read: " + why);
    }
    size_ = uint64_t(status.st_size);
}

ByteSource::~ByteSource() {
    if (descriptor_ >= 0) {
        ::close(descriptor_);
    }
}

size_t ByteSource::read(uint64_t at, void * out, size_t n) const {
    if (at >= size_) {
        return 0;
    }
    n = size_t(std::min<uint64_t>(n, size_ - at));
    if (descriptor_ < 0) {
        std::memcpy(out, bytes_.data() + at, n);
        return n;
    }
    size_t done = 0;
    while (done < n) {
        ssize_t got = ::pread(descriptor_, static_cast<uint8_t *>(out) + done, n - done, off_t(at + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        done += size_t(got);
    }
    return done;
}

void check_abort(const std::atomic<bool> & abort) {
    if (abort.load(std::memory_order_relaxed)) {
        throw Error("E_ABORTED", "reading was aborted");
    }
}

const uint8_t * ByteWindow::at(uint64_t at, size_t n) {
    if (at > size() || size() - at < n || n > CAPACITY) {
        return nullptr;
    }
    if (at < begin_ || at - begin_ > buffer_.size() || buffer_.size() - size_t(at - begin_) < n) {
        buffer_.resize(CAPACITY);
        buffer_.resize(source_.read(at, buffer_.data(), CAPACITY));
        begin_ = at;
        if (buffer_.size() < n) {
            return nullptr;
        }
    }
    return buffer_.data() + size_t(at - begin_);
}

bool ByteWindow::starts_with(uint64_t at, const char * text) {
    size_t n = std::strlen(text);
    const uint8_t * bytes = this->at(at, n);
    return bytes != nullptr && std::memcmp(bytes, text, n) == 0;
}

}  // namespace vg
